#include "ops/dropout.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_dropout(py::module_& m) {
  // Outside training: checks as dropout_forward, then the argument itself.
  m.def("dropout_identity", [](const char* op, py::object x, double p) {
    const auto xa = tensor_arg(op, "x", x);
    check_dropout(op, p);
    return py::isinstance<py::array>(x) ? x : xa.holder;
  });
  m.def("dropout_forward", [](py::object x, double p, uint64_t seed, uint64_t stream) {
    const auto xa = tensor_arg("dropout", "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = dropout_forward(xa.array, {p, {seed, stream}});
    }
    return to_python(y);
  });
  m.def("dropout2d_forward", [](py::object x, double p, uint64_t seed, uint64_t stream) {
    const auto xa = image_arg("dropout2d", "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = dropout2d_forward(xa.array, {p, {seed, stream}});
    }
    return to_python(y);
  });
  m.def("dropout2d_backward", [](py::object dy, py::object x, double p, uint64_t seed, uint64_t stream) {
    const auto dya = image_arg("dropout2d_backward", "dy", dy), xa = image_arg("dropout2d", "x", x);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = dropout2d_backward(dya.array, xa.array, {p, {seed, stream}});
    }
    return to_python(dx);
  });
  m.def("dropout_backward", [](py::object dy, py::object x, double p, uint64_t seed, uint64_t stream) {
    const auto dya = tensor_arg("dropout_backward", "dy", dy), xa = tensor_arg("dropout", "x", x);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = dropout_backward(dya.array, xa.array, {p, {seed, stream}});
    }
    return to_python(dx);
  });
}

}  // namespace convcore

#include "ops/softmax.h"

#include <string>

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

void bind(py::module_& m, Softmax kind, const std::string& name) {
  const std::string backward = name + "_backward";
  m.def((name + "_forward").c_str(), [kind, name](py::object x, int64_t dim) {
    const auto xa = tensor_arg(name.c_str(), "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = softmax_forward(kind, xa.array, dim);
    }
    return to_python(y);
  });
  // `saved` is the output or None; with it, x may be None.
  m.def(backward.c_str(), [kind, backward](py::object dy, py::object x, int64_t dim, py::object saved) {
    const char* op = backward.c_str();
    const auto dya = tensor_arg(op, "dy", dy);
    const auto xa = saved.is_none() ? tensor_arg(op, "x", x) : optional_tensor_arg(op, "x", x);
    const auto ya = optional_tensor_arg(op, "saved", saved);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = softmax_backward(kind, dya.array, xa.array, ya.array, dim);
    }
    return to_python(dx);
  });
}

}  // namespace

void bind_softmax(py::module_& m) {
  bind(m, Softmax::plain, "softmax");
  bind(m, Softmax::log, "log_softmax");
}

}  // namespace convcore

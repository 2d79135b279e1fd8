#include "ops/linear.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_linear(py::module_& m) {
  m.def("linear_forward", [](py::object x, py::object w, py::object b) {
    const auto xa = tensor_arg("linear", "x", x), wa = tensor_arg("linear", "w", w);
    const auto ba = optional_tensor_arg("linear", "b", b);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = linear_forward(xa.array, wa.array, ba.array);
    }
    return to_python(y);
  });
  m.def("linear_backward", [](py::object dy, py::object x, py::object w, bool need_dx, bool need_dw, bool need_db) {
    const auto dya = tensor_arg("linear_backward", "dy", dy);
    const auto xa = tensor_arg("linear", "x", x), wa = tensor_arg("linear", "w", w);
    LinearGrads grads;
    {
      py::gil_scoped_release release;
      grads = linear_backward(dya.array, xa.array, wa.array, need_dx, need_dw, need_db);
    }
    return py::make_tuple(to_python(grads.dx), to_python(grads.dw), to_python(grads.db));
  });
}

}  // namespace convcore

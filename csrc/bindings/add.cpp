#include "ops/add.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_add(py::module_& m) {
  m.def("add_forward", [](py::object a, py::object b) {
    const auto aa = image_arg("add", "a", a), ba = image_arg("add", "b", b);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = add_forward(aa.array, ba.array);
    }
    return to_python(y);
  });
  // The caller gets its own dy back (as an array in order), without a copy.
  m.def("add_backward", [](py::object dy, py::object a, py::object b) {
    const auto dya = image_arg("add_backward", "dy", dy);
    const auto aa = image_arg("add_backward", "a", a), ba = image_arg("add_backward", "b", b);
    check_add_backward(dya.array, aa.array, ba.array);
    return dya.holder;
  });
}

}  // namespace convcore

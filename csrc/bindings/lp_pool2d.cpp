#include "ops/lp_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/windows.h"

namespace convcore {

void bind_lp_pool2d(py::module_& m) {
  m.def("lp_pool2d_forward", [](py::object x, double norm_type, const WindowTuples& windows, bool ceil_mode) {
    const auto xa = image_arg("lp_pool2d", "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = lp_pool2d_forward(xa.array, norm_type, to_windows(windows), ceil_mode);
    }
    return to_python(y);
  });
  m.def("lp_pool2d_backward",
        [](py::object dy, py::object x, double norm_type, const WindowTuples& windows, bool ceil_mode) {
          const auto dya = image_arg("lp_pool2d_backward", "dy", dy), xa = image_arg("lp_pool2d", "x", x);
          Tensor dx;
          {
            py::gil_scoped_release release;
            dx = lp_pool2d_backward(dya.array, xa.array, norm_type, to_windows(windows), ceil_mode);
          }
          return to_python(dx);
        });
}

}  // namespace convcore

#include "ops/adaptive_avg_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_adaptive_avg_pool2d(py::module_& m) {
  m.def("adaptive_avg_pool2d_forward", [](py::object x, const OutputSize& output_size) {
    const auto xa = image_arg("adaptive_avg_pool2d", "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = adaptive_avg_pool2d_forward(xa.array, output_size);
    }
    return to_python(y);
  });
  m.def("adaptive_avg_pool2d_backward", [](py::object dy, const Shape& x_shape, const OutputSize& output_size) {
    const auto dya = image_arg("adaptive_avg_pool2d_backward", "dy", dy);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = adaptive_avg_pool2d_backward(dya.array, x_shape, output_size);
    }
    return to_python(dx);
  });
}

}  // namespace convcore

#include "ops/avg_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/windows.h"

namespace convcore {

void bind_avg_pool2d(py::module_& m) {
  // `op` is "avg_pool2d" or "avg_pool1d".
  m.def("avg_pool2d_forward", [](const char* op, py::object x, const WindowTuples& windows, bool ceil_mode,
                                 bool count_include_pad, std::optional<int64_t> divisor_override) {
    const auto xa = image_arg(op, "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = avg_pool2d_forward(op, xa.array, {to_windows(windows), ceil_mode, count_include_pad, divisor_override});
    }
    return to_python(y);
  });
  m.def("avg_pool2d_backward", [](const char* op, py::object dy, const Shape& x_shape, const WindowTuples& windows,
                                  bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor_override) {
    const auto dya = image_arg((std::string(op) + "_backward").c_str(), "dy", dy);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = avg_pool2d_backward(op, dya.array, x_shape,
                               {to_windows(windows), ceil_mode, count_include_pad, divisor_override});
    }
    return to_python(dx);
  });
}

}  // namespace convcore

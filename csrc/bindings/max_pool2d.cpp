#include "ops/max_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/windows.h"

namespace convcore {

void bind_max_pool2d(py::module_& m) {
  // `op` is "max_pool2d" or "max_pool1d". Gives y and the indices (int32), or None in their place.
  m.def("max_pool2d_forward",
        [](const char* op, py::object x, const WindowTuples& windows, bool ceil_mode, bool need_indices) {
          const auto xa = image_arg(op, "x", x);
          MaxPool2dResult result;
          {
            py::gil_scoped_release release;
            result = max_pool2d_forward(op, xa.array, to_windows(windows), ceil_mode, need_indices);
          }
          return py::make_tuple(to_python(result.y), to_python(result.indices));
        });
  // Needs x or the indices (of any integer dtype); the other one may be None.
  m.def("max_pool2d_backward", [](const char* op, py::object dy, const Shape& x_shape, py::object x, py::object indices,
                                  const WindowTuples& windows, bool ceil_mode) {
    const std::string op_backward = std::string(op) + "_backward";
    const auto dya = image_arg(op_backward.c_str(), "dy", dy);
    Arg<float> xa;
    Arg<int32_t> ia;
    if (indices.is_none())
      xa = image_arg(op, "x", x);
    else
      ia = index_arg(op_backward.c_str(), "indices", indices);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = max_pool2d_backward(op, dya.array, x_shape, xa.array, ia.array, to_windows(windows), ceil_mode);
    }
    return to_python(dx);
  });
}

}  // namespace convcore

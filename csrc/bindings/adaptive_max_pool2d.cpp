#include "ops/adaptive_max_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_adaptive_max_pool2d(py::module_& m) {
  m.def("adaptive_max_pool2d_forward", [](py::object x, const OutputSize& output_size, bool need_indices) {
    const auto xa = image_arg("adaptive_max_pool2d", "x", x);
    MaxPool2dResult result;
    {
      py::gil_scoped_release release;
      result = adaptive_max_pool2d_forward(xa.array, output_size, need_indices);
    }
    return py::make_tuple(to_python(result.y), to_python(result.indices));
  });
  // With `indices`, x may be None.
  m.def("adaptive_max_pool2d_backward",
        [](py::object dy, const Shape& x_shape, py::object x, py::object indices, const OutputSize& output_size) {
          const char* op = "adaptive_max_pool2d_backward";
          const auto dya = image_arg(op, "dy", dy), xa = optional_image_arg(op, "x", x);
          const auto ia = indices.is_none() ? Arg<int32_t>{} : index_arg(op, "indices", indices);
          Tensor dx;
          {
            py::gil_scoped_release release;
            dx = adaptive_max_pool2d_backward(dya.array, x_shape, xa.array, ia.array, output_size);
          }
          return to_python(dx);
        });
}

}  // namespace convcore

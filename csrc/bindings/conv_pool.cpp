#include "ops/conv_pool.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_conv_pool(py::module_& m) {
  // padding is (top, bottom, left, right).
  m.def("conv_pool_forward", [](py::object x, py::object w, py::object b, std::array<int64_t, 4> padding) {
    const char* op = "conv2d_relu_max_pool2d";
    const auto xa = image_arg(op, "x", x), wa = tensor_arg(op, "w", w), ba = optional_tensor_arg(op, "b", b);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = conv_pool_forward(op, xa.array, wa.array, ba.array, padding);
    }
    return to_python(y);
  });
  m.def("conv_pool_backward",
        [](py::object dy, py::object x, py::object w, py::object b, std::array<int64_t, 4> padding, bool need_dx) {
          const char* op = "conv2d_relu_max_pool2d";
          const auto dya = image_arg("conv2d_relu_max_pool2d_backward", "dy", dy);
          const auto xa = image_arg(op, "x", x), wa = tensor_arg(op, "w", w), ba = optional_tensor_arg(op, "b", b);
          Conv2dGrads grads;
          {
            py::gil_scoped_release release;
            grads = conv_pool_backward(op, dya.array, xa.array, wa.array, ba.array, padding, need_dx);
          }
          return py::make_tuple(to_python(grads.dx), to_python(grads.dw), to_python(grads.db));
        });
}

}  // namespace convcore

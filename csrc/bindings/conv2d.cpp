#include "ops/conv2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_conv2d(py::module_& m) {
  // `op` is "conv2d" or "conv1d"; padding is (top, bottom, left, right).
  m.def("conv2d_forward",
        [](const char* op, py::object x, py::object w, py::object b, std::array<int64_t, 2> stride,
           std::array<int64_t, 4> padding, std::array<int64_t, 2> dilation, int64_t groups) {
          const auto xa = tensor_arg(op, "x", x), wa = tensor_arg(op, "w", w);
          const auto ba = optional_tensor_arg(op, "b", b);
          Tensor y;
          {
            py::gil_scoped_release release;
            y = conv2d_forward(op, xa.array, wa.array, ba.array, {stride, padding, dilation, groups});
          }
          return to_numpy(y);
        });
  m.def("conv2d_backward",
        [](const char* op, py::object dy, py::object x, py::object w, std::array<int64_t, 2> stride,
           std::array<int64_t, 4> padding, std::array<int64_t, 2> dilation, int64_t groups, bool need_dx, bool need_dw,
           bool need_db) {
          const auto dya = tensor_arg(op, "dy", dy), xa = tensor_arg(op, "x", x), wa = tensor_arg(op, "w", w);
          Conv2dGrads grads;
          {
            py::gil_scoped_release release;
            grads = conv2d_backward(op, dya.array, xa.array, wa.array, {stride, padding, dilation, groups}, need_dx,
                                    need_dw, need_db);
          }
          return py::make_tuple(to_numpy(grads.dx), to_numpy(grads.dw), to_numpy(grads.db));
        });
}

}  // namespace convcore

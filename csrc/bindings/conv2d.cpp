#include "ops/conv2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "ops/conv2d_algorithm.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

// conv1d runs as conv2d on images of height 1. These two move between (N, C, L) and (N, C, 1, L).
Arg<float> with_height(const char* op, const char* name, const char* dims, Arg<float> arg) {
  Shape shape = arg.array.shape();
  expect_rank(op, name, shape, 3, dims);
  shape.insert(shape.begin() + 2, 1);
  return {arg.holder, arg.array.reshaped(shape)};
}

Tensor without_height(const char* op, const Tensor& array) {
  if (!array.given()) return array;
  const Tensor plain = reorder(op, array, Layout::row_major);
  Shape shape = plain.shape();
  shape.erase(shape.begin() + 2);
  return Tensor(plain.data(), shape, plain.owner() ? plain.owner() : array.owner(), Layout::row_major, plain.device());
}

using Ints1 = std::array<int64_t, 1>;
using Ints2 = std::array<int64_t, 2>;
using Ints4 = std::array<int64_t, 4>;

Conv2dParams params_1d(Ints1 stride, Ints2 padding, Ints1 dilation, int64_t groups) {
  return {{1, stride[0]}, {0, 0, padding[0], padding[1]}, {1, dilation[0]}, groups};
}

Tensor forward(const char* op, const Arg<float>& x, const Arg<float>& w, const Arg<float>& b,
               const Conv2dParams& params) {
  py::gil_scoped_release release;
  return conv2d_forward(op, x.array, w.array, b.array, params);
}

Conv2dGrads backward(const char* op, const Arg<float>& dy, const Arg<float>& x, const Arg<float>& w,
                     const Conv2dParams& params, bool need_dx, bool need_dw, bool need_db) {
  py::gil_scoped_release release;
  return conv2d_backward(op, dy.array, x.array, w.array, params, need_dx, need_dw, need_db);
}

}  // namespace

void bind_conv2d(py::module_& m) {
  // padding is (top, bottom, left, right).
  m.def("conv2d_forward", [](py::object x, py::object w, py::object b, Ints2 stride, Ints4 padding, Ints2 dilation,
                             int64_t groups, const std::string& algo) {
    const char* op = "conv2d";
    const auto xa = image_arg(op, "x", x), wa = tensor_arg(op, "w", w), ba = optional_tensor_arg(op, "b", b);
    return to_python(forward(op, xa, wa, ba, {stride, padding, dilation, groups, parse_algorithm(op, algo)}));
  });
  m.def("conv2d_backward", [](py::object dy, py::object x, py::object w, Ints2 stride, Ints4 padding, Ints2 dilation,
                              int64_t groups, const std::string& algo, bool need_dx, bool need_dw, bool need_db) {
    const char* op = "conv2d";
    const auto dya = image_arg("conv2d_backward", "dy", dy);
    const auto xa = image_arg(op, "x", x), wa = tensor_arg(op, "w", w);
    const Conv2dGrads grads = backward(op, dya, xa, wa, {stride, padding, dilation, groups, parse_algorithm(op, algo)},
                                       need_dx, need_dw, need_db);
    return py::make_tuple(to_python(grads.dx), to_python(grads.dw), to_python(grads.db));
  });

  m.def("conv1d_forward",
        [](py::object x, py::object w, py::object b, Ints1 stride, Ints2 padding, Ints1 dilation, int64_t groups) {
          const char* op = "conv1d";
          const auto xa = with_height(op, "x", "(N, C_in, L)", tensor_arg(op, "x", x));
          const auto wa = with_height(op, "w", "(C_out, C_in / groups, K)", tensor_arg(op, "w", w));
          const auto ba = optional_tensor_arg(op, "b", b);
          return to_python(without_height(op, forward(op, xa, wa, ba, params_1d(stride, padding, dilation, groups))));
        });
  m.def("conv1d_backward", [](py::object dy, py::object x, py::object w, Ints1 stride, Ints2 padding, Ints1 dilation,
                              int64_t groups, bool need_dx, bool need_dw, bool need_db) {
    const char* op = "conv1d";
    const auto dya = with_height("conv1d_backward", "dy", "(N, C_out, L_out)", tensor_arg("conv1d_backward", "dy", dy));
    const auto xa = with_height(op, "x", "(N, C_in, L)", tensor_arg(op, "x", x));
    const auto wa = with_height(op, "w", "(C_out, C_in / groups, K)", tensor_arg(op, "w", w));
    const Conv2dGrads grads =
        backward(op, dya, xa, wa, params_1d(stride, padding, dilation, groups), need_dx, need_dw, need_db);
    return py::make_tuple(to_python(without_height(op, grads.dx)), to_python(without_height(op, grads.dw)),
                          to_python(grads.db));
  });
}

}  // namespace convcore

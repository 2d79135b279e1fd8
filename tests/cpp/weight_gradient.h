// What the tests of the channels-last weight gradients share: the gradient by naive loops.
#pragma once
#include "helpers.h"
#include "ops/conv2d.h"

namespace convcore::test {

struct WeightCase {
  std::string name;
  int64_t n, h, w, c_in, c_out;
  std::array<int64_t, 2> kernel;
  Conv2dParams params;  // stride, padding (top, bottom, left, right), dilation, groups

  Conv2dShape shape() const {
    return infer_conv2d_shape("conv2d", {n, c_in, h, w}, {c_out, c_in, kernel[0], kernel[1]}, params);
  }
};

// x is (N, H, W, C_in), dy is (N, H_out, W_out, C_out); one sum per element of dw (OIHW).
inline std::vector<Sum> naive_weight_gradient(const Conv2dShape& s, const Tensor& dy, const Tensor& x) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  std::vector<Sum> dw(size_t(s.c_out * s.c_in * s.taps()));
  for (int64_t n = 0; n < s.n; n++)
    for (int64_t i = 0; i < s.h_out; i++)
      for (int64_t j = 0; j < s.w_out; j++)
        for (int64_t r = 0; r < h.kernel; r++)
          for (int64_t q = 0; q < w.kernel; q++) {
            const int64_t row = i * h.stride + r * h.dilation - h.pad_before;
            const int64_t column = j * w.stride + q * w.dilation - w.pad_before;
            if (row < 0 || row >= s.h_in || column < 0 || column >= s.w_in) continue;
            const float* pixel = x.data() + ((n * s.h_in + row) * s.w_in + column) * s.c_in;
            const float* gradient = dy.data() + ((n * s.h_out + i) * s.w_out + j) * s.c_out;
            for (int64_t k = 0; k < s.c_out; k++)
              for (int64_t c = 0; c < s.c_in; c++)
                dw[size_t(((k * s.c_in + c) * h.kernel + r) * w.kernel + q)].add(double(gradient[k]) * pixel[c]);
          }
  return dw;
}

}  // namespace convcore::test

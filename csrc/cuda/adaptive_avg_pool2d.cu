// adaptive_avg_pool2d: one thread per output forward, one per pixel of the input backward, as in max_pool2d.cu.
// Bytes: each array once.
#include "ops/adaptive_avg_pool2d.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Range {
  int64_t begin, end;
  __device__ float size() const { return float(end - begin); }
};

// The pixels of window i of `out` along an axis of `in` pixels.
CONVCORE_DEVICE Range window_of(int64_t in, int64_t out, int64_t i) {
  return {i * in / out, ((i + 1) * in + out - 1) / out};
}
// The windows that contain pixel `at`: begin <= at < end of window i.
CONVCORE_DEVICE Range windows_over(int64_t in, int64_t out, int64_t at) {
  return {at * out / in, ((at + 1) * out + in - 1) / in};
}

struct Forward {
  AdaptiveAvgPool2dShape s;
  int64_t c;
  const float* x;
  float* y;
  __device__ void operator()(int64_t at) const {
    const int64_t channel = at % c, pixel = at / c;
    const int64_t j = pixel % s.w_out, i = pixel / s.w_out % s.h_out, n = pixel / s.w_out / s.h_out;
    const Range rows = window_of(s.h_in, s.h_out, i), columns = window_of(s.w_in, s.w_out, j);
    const float* image = x + n * s.h_in * s.w_in * c + channel;
    float sum = 0;
    for (int64_t h = rows.begin; h < rows.end; h++)
      for (int64_t w = columns.begin; w < columns.end; w++) sum += image[(h * s.w_in + w) * c];
    y[at] = sum / (rows.size() * columns.size());
  }
};

struct Backward {
  AdaptiveAvgPool2dShape s;
  int64_t c;
  const float* dy;
  float* dx;
  __device__ void operator()(int64_t at) const {
    const int64_t channel = at % c, pixel = at / c;
    const int64_t w = pixel % s.w_in, h = pixel / s.w_in % s.h_in, n = pixel / s.w_in / s.h_in;
    const Range is = windows_over(s.h_in, s.h_out, h), js = windows_over(s.w_in, s.w_out, w);
    float sum = 0;
    for (int64_t i = is.begin; i < is.end; i++)
      for (int64_t j = js.begin; j < js.end; j++)
        sum += dy[((n * s.h_out + i) * s.w_out + j) * c + channel] /
               (window_of(s.h_in, s.h_out, i).size() * window_of(s.w_in, s.w_out, j).size());
    dx[at] = sum;
  }
};

void forward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* x, float* y) {
  for_positions("adaptive_avg_pool2d", s.planes * s.h_out * s.w_out, Forward{s, c, x, y});
}
void forward(const AdaptiveAvgPool2dShape& s, const float* x, float* y) { forward_channels_last(s, 1, x, y); }
void backward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  for_positions("adaptive_avg_pool2d backward", s.planes * s.h_in * s.w_in, Backward{s, c, dy, dx});
}
void backward(const AdaptiveAvgPool2dShape& s, const float* dy, float* dx) { backward_channels_last(s, 1, dy, dx); }

}  // namespace

AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels() {
  return {forward, backward, forward_channels_last, backward_channels_last};
}

}  // namespace convcore::cuda

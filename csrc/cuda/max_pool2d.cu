// max_pool2d: one thread per output forward, one per pixel of the input backward, where it collects from the outputs
// whose windows span it: every pixel is written once, and there are no atomics.
//
// Images are (n, h, w, c). Row-major planes are the case c = 1 with a plane per image. Neighbouring threads take
// neighbouring channels: accesses are coalesced for c > 1, and nearly for planes.
// Bytes: x once and y once (windows overlap in the caches); backward dy and indices once, dx once.
#include "ops/max_pool2d.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Forward {
  Pool2dShape s;
  int64_t c;
  const float* x;
  float* y;
  int32_t* indices;
  __device__ void operator()(int64_t at) const {
    const int64_t channel = at % c, pixel = at / c;
    const int64_t j = pixel % s.w_out, i = pixel / s.w_out % s.h_out, n = pixel / s.w_out / s.h_out;
    const float* image = x + n * s.h_in * s.w_in * c + channel;
    const WindowAxis &wh = s.window.h, &ww = s.window.w;
    float best = 0;
    int64_t index = -1;
    for (int64_t r = 0; r < wh.kernel; r++) {
      const int64_t h = i * wh.stride - wh.pad_before + r * wh.dilation;
      if (h < 0 || h >= s.h_in) continue;
      for (int64_t q = 0; q < ww.kernel; q++) {
        const int64_t w = j * ww.stride - ww.pad_before + q * ww.dilation;
        if (w < 0 || w >= s.w_in) continue;
        const float value = image[(h * s.w_in + w) * c];
        if (index < 0 || value > best || value != value) best = value, index = h * s.w_in + w;
      }
    }
    y[at] = best;
    if (indices) indices[at] = int32_t(index);
  }
};

struct Backward {
  Pool2dShape s;
  int64_t c;
  const float* dy;
  const int32_t* indices;
  float* dx;
  // The outputs whose windows may span pixel `at` of an axis: from *first on, returns the end.
  __device__ int64_t outputs(const WindowAxis& w, int64_t out, int64_t at, int64_t* first) const {
    const int64_t extent = w.dilation * (w.kernel - 1), from = at + w.pad_before - extent;
    *first = from <= 0 ? 0 : (from + w.stride - 1) / w.stride;
    const int64_t end = (at + w.pad_before) / w.stride + 1;
    return end < out ? end : out;
  }
  __device__ void operator()(int64_t at) const {
    const int64_t channel = at % c, pixel = at / c;
    const int64_t w = pixel % s.w_in, h = pixel / s.w_in % s.h_in, n = pixel / s.w_in / s.h_in;
    const auto position = int32_t(h * s.w_in + w);
    int64_t i0, j0;
    const int64_t i1 = outputs(s.window.h, s.h_out, h, &i0), j1 = outputs(s.window.w, s.w_out, w, &j0);
    float sum = 0;
    for (int64_t i = i0; i < i1; i++)
      for (int64_t j = j0; j < j1; j++) {
        const int64_t out = ((n * s.h_out + i) * s.w_out + j) * c + channel;
        if (indices[out] == position) sum += dy[out];
      }
    dx[at] = sum;
  }
};

void forward_channels_last(const Pool2dShape& s, int64_t c, const float* x, float* y, int32_t* indices) {
  Pool2dShape shape = s;
  for_positions("max_pool2d", s.planes * s.h_out * s.w_out, Forward{shape, c, x, y, indices});
}
void forward(const Pool2dShape& s, const float* x, float* y, int32_t* indices) {
  forward_channels_last(s, 1, x, y, indices);
}

// An index outside of its window is not noticed here: that would need a copy back to the host. It adds to no pixel, or
// to the one that it names.
bool backward_channels_last(const Pool2dShape& s, int64_t c, const float* dy, const int32_t* indices, float* dx) {
  for_positions("max_pool2d backward", s.planes * s.h_in * s.w_in, Backward{s, c, dy, indices, dx});
  return true;
}
bool backward(const Pool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  return backward_channels_last(s, 1, dy, indices, dx);
}

}  // namespace

MaxPool2dKernels max_pool2d_kernels() { return {forward, backward, forward_channels_last, backward_channels_last}; }

}  // namespace convcore::cuda

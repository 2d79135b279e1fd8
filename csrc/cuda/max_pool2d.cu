// max_pool2d: one thread per output forward, one per pixel of the input backward (pool2d.cuh), for four channels at a
// time (images.cuh). Rules for equal values and NaN: ops/max_pool2d.h.
//
// Bytes: x once and y once (windows overlap in the caches); backward dy and indices once, dx once. About 30
// instructions for an output of four channels, and 10 more per pixel of its window.
#include "ops/max_pool2d.h"

#include "cuda/pool2d.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Forward {
  Pool2dShape s;
  int64_t c;
  const float* x;
  float* y;
  int32_t* indices;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* image = x + p.n * s.h_in * s.w_in * c + p.c;
    const WindowAxis &wh = s.window.h, &ww = s.window.w;
    const int64_t h0 = p.h * wh.stride - wh.pad_before, w0 = p.w * ww.stride - ww.pad_before;
    Largest<kLanes> best;
    for (int64_t r = 0; r < wh.kernel; r++) {
      const int64_t h = h0 + r * wh.dilation;
      if (h < 0 || h >= s.h_in) continue;
      for (int64_t q = 0; q < ww.kernel; q++) {
        const int64_t w = w0 + q * ww.dilation;
        if (w >= 0 && w < s.w_in) best.meet(image + (h * s.w_in + w) * c, h * s.w_in + w);
      }
    }
    best.store(y + p.offset, indices ? indices + p.offset : nullptr);
  }
};

struct Backward {
  int64_t h_out, w_out, w_in, c;
  OutputsOver rows, columns;
  const float* dy;
  const int32_t* indices;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range is = rows.at(p.h), js = columns.at(p.w);
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t i = is.begin; i < is.end; i++)
      for (int64_t j = js.begin; j < js.end; j++) {
        const int64_t out = ((p.n * h_out + i) * w_out + j) * c + p.c;
        add_where<kLanes>(indices + out, dy + out, p.h * w_in + p.w, &sum);
      }
    store_lanes(dx + p.offset, sum);
  }
};

void forward_channels_last(const Pool2dShape& s, int64_t c, const float* x, float* y, int32_t* indices) {
  if (c == 0) return;
  for_pixels("max_pool2d", {s.planes / c, s.h_out, s.w_out, c}, aligned16(x, y, indices), Forward{s, c, x, y, indices});
}
void forward(const Pool2dShape& s, const float* x, float* y, int32_t* indices) {
  forward_channels_last(s, 1, x, y, indices);
}

// An index outside of its window is not noticed here: that would need a copy back to the host. It adds to no pixel, or
// to the one that it names.
bool backward_channels_last(const Pool2dShape& s, int64_t c, const float* dy, const int32_t* indices, float* dx) {
  if (c == 0) return true;
  for_pixels("max_pool2d backward", {s.planes / c, s.h_in, s.w_in, c}, aligned16(dy, indices, dx),
             Backward{s.h_out, s.w_out, s.w_in, c, OutputsOver(s.window.h, s.h_out), OutputsOver(s.window.w, s.w_out),
                      dy, indices, dx});
  return true;
}
bool backward(const Pool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  return backward_channels_last(s, 1, dy, indices, dx);
}

}  // namespace

MaxPool2dKernels max_pool2d_kernels() { return {forward, backward, forward_channels_last, backward_channels_last}; }

}  // namespace convcore::cuda

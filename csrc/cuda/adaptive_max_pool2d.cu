// adaptive_max_pool2d: one thread per output forward, one per pixel of the input backward (pool2d.cuh), on row-major
// planes. Bytes: each array once.
#include "ops/adaptive_max_pool2d.h"

#include "cuda/pool2d.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Forward {
  AdaptiveAxis rows, columns;
  const float* x;
  float* y;
  int32_t* indices;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range hs = rows.pixels_of(p.h), ws = columns.pixels_of(p.w);
    const float* plane = x + p.n * rows.in * columns.in;
    Largest<kLanes> best;
    for (int64_t h = hs.begin; h < hs.end; h++)
      for (int64_t at = h * columns.in + ws.begin; at < h * columns.in + ws.end; at++) best.meet(plane + at, at);
    best.store(y + p.offset, indices + p.offset);
  }
};

struct Backward {
  AdaptiveAxis rows, columns;
  const float* dy;
  const int32_t* indices;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range is = rows.windows_over(p.h), js = columns.windows_over(p.w);
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t i = is.begin; i < is.end; i++)
      for (int64_t j = js.begin; j < js.end; j++) {
        const int64_t out = (p.n * rows.out + i) * columns.out + j;
        add_where<kLanes>(indices + out, dy + out, p.h * columns.in + p.w, &sum);
      }
    store_lanes(dx + p.offset, sum);
  }
};

void forward(const AdaptiveAvgPool2dShape& s, const float* x, float* y, int32_t* indices) {
  for_pixels("adaptive_max_pool2d", {s.planes, s.h_out, s.w_out, 1}, false,
             Forward{{s.h_in, s.h_out}, {s.w_in, s.w_out}, x, y, indices});
}

// An index outside of its window adds to no pixel: noticing it would need a copy back to the host.
bool backward(const AdaptiveAvgPool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  for_pixels("adaptive_max_pool2d backward", {s.planes, s.h_in, s.w_in, 1}, false,
             Backward{{s.h_in, s.h_out}, {s.w_in, s.w_out}, dy, indices, dx});
  return true;
}

}  // namespace

AdaptiveMaxPool2dKernels adaptive_max_pool2d_kernels() { return {forward, backward}; }

}  // namespace convcore::cuda

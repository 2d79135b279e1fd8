// stochastic_pool2d on row-major planes: one thread per output, which reads its window twice: for the sum, and for the
// position where the sum so far passes the drawn threshold. Backward (of the mean): one thread per pixel of the input,
// which makes the sums of the windows over it again (pool2d.cuh). Bytes: each array once (windows from the caches).
#include "ops/stochastic_pool2d.h"

#include "cuda/pool2d.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

CONVCORE_DEVICE float positive(float x) { return x <= 0 ? 0.0f : x; }  // a NaN stays

struct Windows {
  int64_t h_in, w_in, kernel_h, kernel_w, stride_h, stride_w;
  explicit Windows(const Pool2dShape& s)
      : h_in(s.h_in),
        w_in(s.w_in),
        kernel_h(s.window.h.kernel),
        kernel_w(s.window.w.kernel),
        stride_h(s.window.h.stride),
        stride_w(s.window.w.stride) {}
  // f(value, position in the plane) for the pixels of window (i, j), row by row.
  template <typename F>
  __device__ void for_each(const float* plane, int64_t i, int64_t j, F f) const {
    for (int64_t r = 0; r < kernel_h; r++)
      for (int64_t q = 0; q < kernel_w; q++) {
        const int64_t at = (i * stride_h + r) * w_in + j * stride_w + q;
        f(positive(plane[at]), at);
      }
  }
};

struct Draw {
  Windows windows;
  const RandomKey* key;
  int64_t first_row, blocks_of_row, h_out;
  const float* x;
  float* y;
  int32_t* indices;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* plane = x + p.n * windows.h_in * windows.w_in;
    float total = 0;
    windows.for_each(plane, p.h, p.w, [&](float a, int64_t) { total += a; });
    const int64_t row = first_row + p.n * h_out + p.h;
    const Philox random = philox_at(*key, uint64_t(row * blocks_of_row + p.w / 4));
    const uint32_t bits =
        p.w % 4 < 2 ? (p.w % 2 ? random.value[1] : random.value[0]) : (p.w % 2 ? random.value[3] : random.value[2]);
    const float threshold = float(bits >> 8) * (1.0f / 16777216.0f) * total;
    float so_far = 0, value = 0;
    int64_t position = p.h * windows.stride_h * windows.w_in + p.w * windows.stride_w;
    bool drawn = false;
    windows.for_each(plane, p.h, p.w, [&](float a, int64_t at) {
      so_far += a;
      // Rounding may leave the last sum at the threshold: so the last positive value stays unless a later one is drawn.
      if (!(a > 0) || drawn) return;
      value = a, position = at;
      drawn = so_far > threshold;
    });
    y[p.offset] = total == total ? value : total;
    indices[p.offset] = int32_t(position);
  }
};

struct WindowMean {
  float total = 0, squares = 0;
  __device__ void add(float a) { total += a, squares = fmaf(a, a, squares); }
  __device__ float mean() const { return total == 0 ? 0.0f : squares / total; }
};

struct Mean {
  Windows windows;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    WindowMean of;
    windows.for_each(x + p.n * windows.h_in * windows.w_in, p.h, p.w, [&](float a, int64_t) { of.add(a); });
    y[p.offset] = of.mean();
  }
};

struct MeanBackward {
  Windows windows;
  int64_t h_out, w_out;
  OutputsOver rows, columns;
  const float *dy, *x;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float own = x[p.offset];
    float sum = 0;
    if (!(own <= 0)) {
      const Range is = rows.at(p.h), js = columns.at(p.w);
      for (int64_t i = is.begin; i < is.end; i++)
        for (int64_t j = js.begin; j < js.end; j++) {
          WindowMean of;
          windows.for_each(x + p.n * windows.h_in * windows.w_in, i, j, [&](float a, int64_t) { of.add(a); });
          sum += dy[(p.n * h_out + i) * w_out + j] * (2 * own - of.mean()) / of.total;
        }
    }
    dx[p.offset] = sum;
  }
};

void draw(const Pool2dShape& s, const RandomKey* key, int64_t first_plane, const float* x, float* y, int32_t* indices) {
  for_pixels("stochastic_pool2d", {s.planes, s.h_out, s.w_out, 1}, false,
             Draw{Windows(s), key, first_plane * s.h_out, (s.w_out + 3) / 4, s.h_out, x, y, indices});
}
void mean(const Pool2dShape& s, const float* x, float* y) {
  for_pixels("stochastic_pool2d mean", {s.planes, s.h_out, s.w_out, 1}, false, Mean{Windows(s), x, y});
}
void mean_backward(const Pool2dShape& s, const float* dy, const float* x, float* dx) {
  for_pixels("stochastic_pool2d backward", {s.planes, s.h_in, s.w_in, 1}, false,
             MeanBackward{Windows(s), s.h_out, s.w_out, OutputsOver(s.window.h, s.h_out),
                          OutputsOver(s.window.w, s.w_out), dy, x, dx});
}

}  // namespace

StochasticPool2dKernels stochastic_pool2d_kernels() { return {draw, mean, mean_backward}; }

}  // namespace convcore::cuda

// avg_pool2d: one thread per output forward, one per pixel of the input backward (pool2d.cuh), for four channels at a
// time (images.cuh). Bytes: each array once (windows overlap in the caches).
#include "ops/avg_pool2d.h"

#include "cuda/pool2d.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// What the sum of window i is divided by, along one axis: the number of its pixels on the padded input, or on the
// input.
struct Counted {
  WindowPixels pixels;
  int64_t padded_end;
  bool padding;
  Counted(const WindowAxis& w, int64_t in, bool padding_)
      : pixels(w, in), padded_end(in + w.pad_after), padding(padding_) {}
  __device__ float at(int64_t i) const {
    if (!padding) return pixels.at(i).size();
    const int64_t start = i * pixels.stride - pixels.before, stop = start + pixels.kernel;
    return float((stop < padded_end ? stop : padded_end) - start);
  }
};

struct Share {  // one divided by the divisor of an output
  Counted rows, columns;
  float fixed;  // 0: counted
  explicit Share(const AvgPool2dShape& s)
      : rows(s.pool.window.h, s.pool.h_in, s.count_include_pad),
        columns(s.pool.window.w, s.pool.w_in, s.count_include_pad),
        fixed(s.divisor_override != 0 ? 1.0f / float(s.divisor_override) : 0.0f) {}
  __device__ float at(int64_t i, int64_t j) const { return fixed != 0 ? fixed : 1.0f / (rows.at(i) * columns.at(j)); }
};

template <int kLanes>
CONVCORE_DEVICE void add_scaled(const float* x, float factor, Lanes<float, kLanes>* sum) {
  const auto v = load_lanes<kLanes>(x);
  CONVCORE_UNROLL
  for (int l = 0; l < kLanes; l++) sum->at[l] += v.at[l] * factor;
}

struct Forward {
  int64_t h_in, w_in, c;
  Share share;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range rows = share.rows.pixels.at(p.h), columns = share.columns.pixels.at(p.w);
    const float* image = x + p.n * h_in * w_in * c + p.c;
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t h = rows.begin; h < rows.end; h++)
      for (int64_t w = columns.begin; w < columns.end; w++) add_scaled(image + (h * w_in + w) * c, 1.0f, &sum);
    const float by = share.at(p.h, p.w);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) sum.at[l] *= by;
    store_lanes(y + p.offset, sum);
  }
};

struct Backward {
  int64_t h_out, w_out, c;
  OutputsOver rows, columns;
  Share share;
  const float* dy;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range is = rows.at(p.h), js = columns.at(p.w);
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t i = is.begin; i < is.end; i++)
      for (int64_t j = js.begin; j < js.end; j++)
        add_scaled(dy + ((p.n * h_out + i) * w_out + j) * c + p.c, share.at(i, j), &sum);
    store_lanes(dx + p.offset, sum);
  }
};

void forward_channels_last(const AvgPool2dShape& s, int64_t c, const float* x, float* y) {
  const Pool2dShape& p = s.pool;
  if (c == 0) return;
  for_pixels("avg_pool2d", {p.planes / c, p.h_out, p.w_out, c}, aligned16(x, y),
             Forward{p.h_in, p.w_in, c, Share(s), x, y});
}
void forward(const AvgPool2dShape& s, const float* x, float* y) { forward_channels_last(s, 1, x, y); }
void backward_channels_last(const AvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  const Pool2dShape& p = s.pool;
  if (c == 0) return;
  for_pixels("avg_pool2d backward", {p.planes / c, p.h_in, p.w_in, c}, aligned16(dy, dx),
             Backward{p.h_out, p.w_out, c, OutputsOver(p.window.h, p.h_out), OutputsOver(p.window.w, p.w_out), Share(s),
                      dy, dx});
}
void backward(const AvgPool2dShape& s, const float* dy, float* dx) { backward_channels_last(s, 1, dy, dx); }

}  // namespace

AvgPool2dKernels avg_pool2d_kernels() { return {forward, backward, forward_channels_last, backward_channels_last}; }

}  // namespace convcore::cuda

// pad: one thread per pixel of the result forward, one per pixel of the image backward, where it collects from the
// pixels that were made from it, in row-major order; four channels at a time (images.cuh). Bytes: each array once.
#include "ops/pad.h"

#include "cuda/pool2d.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// Padding along one axis.
struct PadAxis {
  PadMode mode;
  int64_t before, in, out;

  // The image's pixel that pixel i of the result is made from; -1: none.
  __device__ int64_t source(int64_t i) const {
    const int64_t p = i - before;
    if (p >= 0 && p < in) return p;
    if (mode == PadMode::reflect) return p < 0 ? -p : 2 * (in - 1) - p;
    if (mode == PadMode::replicate) return p < 0 ? 0 : in - 1;
    if (mode == PadMode::circular) return p < 0 ? p + in : p - in;
    return -1;
  }

  // The pixels of the result that are made from pixel `at` of the image and lie before it, and those that lie after.
  __device__ Range earlier(int64_t at) const {
    if (mode == PadMode::replicate) return {0, at == 0 ? before : 0};
    const int64_t i = mode == PadMode::reflect ? before - at : before + at - in;
    const bool made = mode != PadMode::constant && i >= 0 && i < before;
    return {made ? i : 0, made ? i + 1 : 0};
  }
  __device__ Range later(int64_t at) const {
    const int64_t after = before + in;
    if (mode == PadMode::replicate) return {after, at == in - 1 ? out : after};
    const int64_t i = mode == PadMode::reflect ? before + 2 * (in - 1) - at : before + at + in;
    const bool made = mode != PadMode::constant && i >= after && i < out;
    return {made ? i : 0, made ? i + 1 : 0};
  }
};

// The pixels of the result that are made from one pixel of the image, in order: number 0 to count - 1.
struct MadeFrom {
  Range first, last;
  int64_t middle, before, count;
  __device__ MadeFrom(const PadAxis& axis, int64_t at)
      : first(axis.earlier(at)),
        last(axis.later(at)),
        middle(axis.before + at),
        before(first.end - first.begin),
        count(before + 1 + last.end - last.begin) {}
  __device__ int64_t pixel(int64_t number) const {
    if (number < before) return first.begin + number;
    return number == before ? middle : last.begin + number - before - 1;
  }
};

struct Forward {
  PadAxis rows, columns;
  int64_t c;
  float value;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const int64_t h = rows.source(p.h), w = columns.source(p.w);
    auto v = all_lanes<kLanes>(value);
    if (h >= 0 && w >= 0) v = load_lanes<kLanes>(x + ((p.n * rows.in + h) * columns.in + w) * c + p.c);
    store_lanes(y + p.offset, v);
  }
};

struct Backward {
  PadAxis rows, columns;
  int64_t c;
  const float* dy;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto sum = all_lanes<kLanes>(0.0f);
    const MadeFrom is(rows, p.h), js(columns, p.w);
    for (int64_t a = 0; a < is.count; a++)
      for (int64_t b = 0; b < js.count; b++) {
        const int64_t from = ((p.n * rows.out + is.pixel(a)) * columns.out + js.pixel(b)) * c + p.c;
        const auto v = load_lanes<kLanes>(dy + from);
        CONVCORE_UNROLL
        for (int l = 0; l < kLanes; l++) sum.at[l] += v.at[l];
      }
    store_lanes(dx + p.offset, sum);
  }
};

PadAxis rows_of(const PadShape& s) { return {s.params.mode, s.params.top, s.h_in, s.h_out}; }
PadAxis columns_of(const PadShape& s) { return {s.params.mode, s.params.left, s.w_in, s.w_out}; }
int64_t images(const PadShape& s, Layout layout) { return layout == Layout::row_major ? s.n * s.c : s.n; }
int64_t channels(const PadShape& s, Layout layout) { return layout == Layout::row_major ? 1 : s.c; }

void forward(const PadShape& s, Layout layout, const float* x, float* y) {
  const int64_t c = channels(s, layout);
  for_pixels("pad", {images(s, layout), s.h_out, s.w_out, c}, aligned16(x, y),
             Forward{rows_of(s), columns_of(s), c, s.params.value, x, y});
}
void backward(const PadShape& s, Layout layout, const float* dy, float* dx) {
  const int64_t c = channels(s, layout);
  for_pixels("pad backward", {images(s, layout), s.h_in, s.w_in, c}, aligned16(dy, dx),
             Backward{rows_of(s), columns_of(s), c, dy, dx});
}

}  // namespace

PadKernels pad_kernels() { return {forward, backward}; }

}  // namespace convcore::cuda

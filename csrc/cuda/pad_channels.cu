// pad_channels: one thread per element of what is written. Bytes: each array once.
#include "ops/pad_channels.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// Strides of an image (n, c, h, w) in memory.
struct Strides {
  int64_t n, c, h, w;
};
CONVCORE_DEVICE int64_t offset(const Strides& s, int64_t n, int64_t c, int64_t h, int64_t w) {
  return n * s.n + c * s.c + h * s.h + w * s.w;
}

// The element at `at` of an array of sizes (c, h, w) per image, in either order of memory.
struct Element {
  int64_t n, c, h, w;
};
CONVCORE_DEVICE Element element_at(int64_t at, int64_t c, int64_t h, int64_t w, bool last) {
  if (last) return {at / (c * h * w), at % c, at / (c * w) % h, at / c % w};
  return {at / (c * h * w), at / (h * w) % c, at / w % h, at % w};
}

struct Forward {
  PadChannelsShape s;
  Strides in;
  bool last;
  const float* x;
  float* y;
  __device__ void operator()(int64_t at) const {
    const Element e = element_at(at, s.c_out, s.h_out, s.w_out, last);
    const int64_t c = e.c - s.before;
    y[at] = c < 0 || c >= s.c_in ? 0.0f : x[offset(in, e.n, c, e.h * s.stride_h, e.w * s.stride_w)];
  }
};

struct Backward {
  PadChannelsShape s;
  Strides out;
  bool last;
  const float* dy;
  float* dx;
  __device__ void operator()(int64_t at) const {
    const Element e = element_at(at, s.c_in, s.h_in, s.w_in, last);
    const bool kept = e.h % s.stride_h == 0 && e.w % s.stride_w == 0;
    dx[at] = kept ? dy[offset(out, e.n, e.c + s.before, e.h / s.stride_h, e.w / s.stride_w)] : 0.0f;
  }
};

Strides strides(int64_t c, int64_t h, int64_t w, bool last) {
  return last ? Strides{c * h * w, 1, w * c, c} : Strides{c * h * w, h * w, w, 1};
}

template <bool kLast>
void forward(const PadChannelsShape& s, const float* x, float* y) {
  for_positions("pad_channels", s.n * s.c_out * s.h_out * s.w_out,
                Forward{s, strides(s.c_in, s.h_in, s.w_in, kLast), kLast, x, y});
}
template <bool kLast>
void backward(const PadChannelsShape& s, const float* dy, float* dx) {
  for_positions("pad_channels backward", s.n * s.c_in * s.h_in * s.w_in,
                Backward{s, strides(s.c_out, s.h_out, s.w_out, kLast), kLast, dy, dx});
}

}  // namespace

PadChannelsKernels pad_channels_kernels() { return {forward<false>, backward<false>, forward<true>, backward<true>}; }

}  // namespace convcore::cuda

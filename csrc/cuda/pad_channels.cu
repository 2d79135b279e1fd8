// pad_channels: one thread per four channels of a pixel of what is written (images.cuh), per pixel in row-major order.
// Bytes: each array once.
#include "ops/pad_channels.h"

#include "cuda/images.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// Row-major planes are images of one channel; which channel a plane is follows from its number.
struct Channels {
  bool last;
  int64_t count;  // of a whole image of what is written
  Divisor by_count;
  Channels(bool last_, int64_t count_) : last(last_), count(count_), by_count(count_) {}
  Images images(int64_t n, int64_t h, int64_t w) const {
    return last ? Images{n, h, w, count} : Images{n * count, h, w, 1};
  }
  // Image and channel of an element.
  __device__ int64_t locate(const PixelAt& p, int64_t* channel) const {
    if (!last) return by_count.divide(p.n, channel);
    *channel = p.c;
    return p.n;
  }
};

CONVCORE_DEVICE int64_t offset(bool last, int64_t n, int64_t c, int64_t h, int64_t w, int64_t channels, int64_t height,
                               int64_t width) {
  return last ? ((n * height + h) * width + w) * channels + c : ((n * channels + c) * height + h) * width + w;
}

struct Forward {
  PadChannelsShape s;
  Channels channels;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    int64_t c;
    const int64_t n = channels.locate(p, &c);
    auto v = all_lanes<kLanes>(0.0f);
    c -= s.before;
    if (c >= 0 && c < s.c_in)
      v = load_lanes<kLanes>(x +
                             offset(channels.last, n, c, p.h * s.stride_h, p.w * s.stride_w, s.c_in, s.h_in, s.w_in));
    store_lanes(y + p.offset, v);
  }
};

struct Backward {
  PadChannelsShape s;
  Channels channels;
  Divisor by_stride_h, by_stride_w;
  const float* dy;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    int64_t c, rest_h, rest_w;
    const int64_t n = channels.locate(p, &c);
    const int64_t h = by_stride_h.divide(p.h, &rest_h), w = by_stride_w.divide(p.w, &rest_w);
    auto v = all_lanes<kLanes>(0.0f);
    if (rest_h == 0 && rest_w == 0)
      v = load_lanes<kLanes>(dy + offset(channels.last, n, c + s.before, h, w, s.c_out, s.h_out, s.w_out));
    store_lanes(dx + p.offset, v);
  }
};

// Whether four channels are four on both sides.
bool by_fours(const PadChannelsShape& s, const float* a, const float* b) {
  return s.c_in % 4 == 0 && s.c_out % 4 == 0 && s.before % 4 == 0 && aligned16(a, b);
}

template <bool kLast>
void forward(const PadChannelsShape& s, const float* x, float* y) {
  const Channels channels(kLast, s.c_out);
  for_pixels("pad_channels", channels.images(s.n, s.h_out, s.w_out), by_fours(s, x, y), Forward{s, channels, x, y});
}
template <bool kLast>
void backward(const PadChannelsShape& s, const float* dy, float* dx) {
  const Channels channels(kLast, s.c_in);
  for_pixels("pad_channels backward", channels.images(s.n, s.h_in, s.w_in), by_fours(s, dy, dx),
             Backward{s, channels, Divisor(s.stride_h), Divisor(s.stride_w), dy, dx});
}

}  // namespace

PadChannelsKernels pad_channels_kernels() { return {forward<false>, backward<false>, forward<true>, backward<true>}; }

}  // namespace convcore::cuda

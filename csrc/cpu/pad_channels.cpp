// pad_channels: copies. Row-major: a plane of the result is one item; channels-last: an image of the result is one
// item.
#include "ops/pad_channels.h"

#include <cstring>

#include "core/threads.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- row-major ------------------------------------------------------------------------------------------------------

static void forward(const PadChannelsShape& s, const float* x, float* y) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  parallel_for(s.n * s.c_out, out, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) {
      const int64_t n = plane / s.c_out, c = plane % s.c_out - s.before;
      float* to = y + plane * out;
      if (c < 0 || c >= s.c_in) {
        memset(to, 0, size_t(out) * sizeof(float));
        continue;
      }
      const float* from = x + (n * s.c_in + c) * in;
      for (int64_t i = 0; i < s.h_out; i++, from += s.stride_h * s.w_in)
        for (int64_t j = 0; j < s.w_out; j++) *to++ = from[j * s.stride_w];
    }
  });
}

static void backward(const PadChannelsShape& s, const float* dy, float* dx) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  parallel_for(s.n * s.c_in, in, [&](int64_t begin, int64_t end) {
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t plane = begin; plane < end; plane++) {
      const int64_t n = plane / s.c_in, c = plane % s.c_in + s.before;
      const float* from = dy + (n * s.c_out + c) * out;
      for (int64_t i = 0; i < s.h_out; i++)
        for (int64_t j = 0; j < s.w_out; j++) dx[plane * in + i * s.stride_h * s.w_in + j * s.stride_w] = *from++;
    }
  });
}

// ---- channels-last --------------------------------------------------------------------------------------------------

// f(pixel of x, pixel of y) for the pixels that are copied in one image.
template <typename F>
static void for_each_pixel(const PadChannelsShape& s, const F& f) {
  for (int64_t i = 0; i < s.h_out; i++)
    for (int64_t j = 0; j < s.w_out; j++) f(i * s.stride_h * s.w_in + j * s.stride_w, i * s.w_out + j);
}

static void forward_channels_last(const PadChannelsShape& s, const float* x, float* y) {
  const int64_t in = s.h_in * s.w_in * s.c_in, out = s.h_out * s.w_out * s.c_out;
  parallel_for(s.n, out, [&](int64_t begin, int64_t end) {
    memset(y + begin * out, 0, size_t((end - begin) * out) * sizeof(float));
    for (int64_t n = begin; n < end; n++)
      for_each_pixel(s, [&](int64_t from, int64_t to) {
        memcpy(y + n * out + to * s.c_out + s.before, x + n * in + from * s.c_in, size_t(s.c_in) * sizeof(float));
      });
  });
}

static void backward_channels_last(const PadChannelsShape& s, const float* dy, float* dx) {
  const int64_t in = s.h_in * s.w_in * s.c_in, out = s.h_out * s.w_out * s.c_out;
  parallel_for(s.n, in, [&](int64_t begin, int64_t end) {
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t n = begin; n < end; n++)
      for_each_pixel(s, [&](int64_t to, int64_t from) {
        memcpy(dx + n * in + to * s.c_in, dy + n * out + from * s.c_out + s.before, size_t(s.c_in) * sizeof(float));
      });
  });
}

PadChannelsKernels pad_channels_kernels();
PadChannelsKernels pad_channels_kernels() { return {forward, backward, forward_channels_last, backward_channels_last}; }

}  // namespace convcore::cpu::CONVCORE_ISA

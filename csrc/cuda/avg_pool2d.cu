// avg_pool2d: one thread per output forward, one per pixel of the input backward, as in max_pool2d.cu.
// Bytes: each array once.
#include "ops/avg_pool2d.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Span {          // a window along one axis
  int64_t begin, end;  // its pixels on the input
  int64_t padded;      // number of its pixels on the padded input
};

CONVCORE_DEVICE Span span_of(const WindowAxis& w, int64_t in, int64_t i) {
  const int64_t start = i * w.stride - w.pad_before;
  const int64_t stop = start + w.kernel < in + w.pad_after ? start + w.kernel : in + w.pad_after;
  return {start > 0 ? start : 0, stop < in ? stop : in, stop - start};
}

CONVCORE_DEVICE float divisor_of(const AvgPool2dShape& s, const Span& rows, const Span& columns) {
  if (s.divisor_override != 0) return float(s.divisor_override);
  if (s.count_include_pad) return float(rows.padded * columns.padded);
  return float((rows.end - rows.begin) * (columns.end - columns.begin));
}

struct Forward {
  AvgPool2dShape s;
  int64_t c;
  const float* x;
  float* y;
  __device__ void operator()(int64_t at) const {
    const Pool2dShape& p = s.pool;
    const int64_t channel = at % c, pixel = at / c;
    const int64_t j = pixel % p.w_out, i = pixel / p.w_out % p.h_out, n = pixel / p.w_out / p.h_out;
    const Span rows = span_of(p.window.h, p.h_in, i), columns = span_of(p.window.w, p.w_in, j);
    const float* image = x + n * p.h_in * p.w_in * c + channel;
    float sum = 0;
    for (int64_t h = rows.begin; h < rows.end; h++)
      for (int64_t w = columns.begin; w < columns.end; w++) sum += image[(h * p.w_in + w) * c];
    y[at] = sum / divisor_of(s, rows, columns);
  }
};

struct Backward {
  AvgPool2dShape s;
  int64_t c;
  const float* dy;
  float* dx;
  __device__ int64_t first_output(const WindowAxis& w, int64_t at) const {
    const int64_t from = at + w.pad_before - w.kernel + 1;
    return from <= 0 ? 0 : (from + w.stride - 1) / w.stride;
  }
  __device__ int64_t end_output(const WindowAxis& w, int64_t out, int64_t at) const {
    const int64_t end = (at + w.pad_before) / w.stride + 1;
    return end < out ? end : out;
  }
  __device__ void operator()(int64_t at) const {
    const Pool2dShape& p = s.pool;
    const int64_t channel = at % c, pixel = at / c;
    const int64_t w = pixel % p.w_in, h = pixel / p.w_in % p.h_in, n = pixel / p.w_in / p.h_in;
    float sum = 0;
    for (int64_t i = first_output(p.window.h, h); i < end_output(p.window.h, p.h_out, h); i++)
      for (int64_t j = first_output(p.window.w, w); j < end_output(p.window.w, p.w_out, w); j++) {
        const Span rows = span_of(p.window.h, p.h_in, i), columns = span_of(p.window.w, p.w_in, j);
        sum += dy[((n * p.h_out + i) * p.w_out + j) * c + channel] / divisor_of(s, rows, columns);
      }
    dx[at] = sum;
  }
};

void forward_channels_last(const AvgPool2dShape& s, int64_t c, const float* x, float* y) {
  for_positions("avg_pool2d", s.pool.planes * s.pool.h_out * s.pool.w_out, Forward{s, c, x, y});
}
void forward(const AvgPool2dShape& s, const float* x, float* y) { forward_channels_last(s, 1, x, y); }
void backward_channels_last(const AvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  for_positions("avg_pool2d backward", s.pool.planes * s.pool.h_in * s.pool.w_in, Backward{s, c, dy, dx});
}
void backward(const AvgPool2dShape& s, const float* dy, float* dx) { backward_channels_last(s, 1, dy, dx); }

}  // namespace

AvgPool2dKernels avg_pool2d_kernels() { return {forward, backward, forward_channels_last, backward_channels_last}; }

}  // namespace convcore::cuda

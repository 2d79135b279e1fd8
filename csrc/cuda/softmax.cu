// softmax, log_softmax: one warp per row of classes; a lane takes every 32nd class.
// Bytes: x three times (twice from the caches), y once.
#include "ops/softmax.h"

#include "cuda/rows.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

template <bool kLog>
CONVCORE_KERNEL(kRowThreads)
softmax_rows(SoftmaxShape s, const float* x, float* y) {
  for_each_row(s.outer * s.inner, [&](int64_t row) {
    const int64_t at = row / s.inner * s.c * s.inner + row % s.inner;
    const float high = row_max(x + at, s.c, s.inner);
    float sum = 0;
    for (int64_t c = lane(); c < s.c; c += kWarp) sum += expf(x[at + c * s.inner] - high);
    sum = warp_sum(sum);
    const float log_sum = logf(sum);
    for (int64_t c = lane(); c < s.c; c += kWarp) {
      const float z = x[at + c * s.inner] - high;
      y[at + c * s.inner] = kLog ? z - log_sum : expf(z) / sum;
    }
  });
}

template <bool kLog>
CONVCORE_KERNEL(kRowThreads)
softmax_rows_backward(SoftmaxShape s, const float* dy, const float* y, float* dx) {
  for_each_row(s.outer * s.inner, [&](int64_t row) {
    const int64_t at = row / s.inner * s.c * s.inner + row % s.inner;
    float sum = 0;
    for (int64_t c = lane(); c < s.c; c += kWarp) {
      const int64_t i = at + c * s.inner;
      sum += kLog ? dy[i] : dy[i] * y[i];
    }
    sum = warp_sum(sum);
    for (int64_t c = lane(); c < s.c; c += kWarp) {
      const int64_t i = at + c * s.inner;
      dx[i] = kLog ? dy[i] - expf(y[i]) * sum : y[i] * (dy[i] - sum);
    }
  });
}

template <bool kLog>
void forward(const SoftmaxShape& s, const float* x, float* y) {
  launch_rows("softmax", softmax_rows<kLog>, s.outer * s.inner, s, x, y);
}
template <bool kLog>
void backward(const SoftmaxShape& s, const float* dy, const float* y, float* dx) {
  launch_rows("softmax backward", softmax_rows_backward<kLog>, s.outer * s.inner, s, dy, y, dx);
}

}  // namespace

SoftmaxKernels softmax_kernels() { return {{forward<false>, forward<true>}, {backward<false>, backward<true>}}; }

}  // namespace convcore::cuda

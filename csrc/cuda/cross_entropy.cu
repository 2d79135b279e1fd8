// cross_entropy: one warp per sample; loss and gradient together. With z = x - max and s = sum exp(z):
//
//   loss = log(s) - (1 - smoothing) z[target] - smoothing / C * sum z        gradient = *scale * (exp(z) / s - q)
//
// Bytes: x three times (twice from the caches), the gradient once.
#include "ops/cross_entropy.h"

#include "cuda/cross_entropy.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

CONVCORE_KERNEL(kRowThreads)
cross_entropy_rows(CrossEntropyShape s, CrossEntropyParams p, const float* scale, const float* x, const int64_t* target,
                   float* loss, float* gradient) {
  for_each_row(s.n * s.inner, [&](int64_t row) {
    const int64_t at = row / s.inner * s.c * s.inner + row % s.inner;
    const float value =
        cross_entropy_row(s.c, s.inner, p, *scale, x + at, target[row], gradient ? gradient + at : nullptr);
    if (lane() == 0) loss[row] = value;
  });
}

// The same for shares of the classes, inner = 1: q = (1 - smoothing) * target + smoothing / C,
// loss = log(s) * sum q - sum q z, gradient = *scale * (exp(z) / s * sum q - q).
CONVCORE_KERNEL(kRowThreads)
cross_entropy_rows_of_shares(CrossEntropyShape s, CrossEntropyParams p, const float* scale, const float* x,
                             const float* target, float* loss, float* gradient) {
  const float on_target = 1.0f - p.label_smoothing, on_each = p.label_smoothing / float(s.c);
  for_each_row(s.n, [&](int64_t row) {
    const int64_t at = row * s.c;
    const float high = row_max(x + at, s.c, 1);
    float sum = 0, sum_q = 0, product = 0;
    for (int64_t c = lane(); c < s.c; c += kWarp) {
      const float z = x[at + c] - high, q = fmaf(target[at + c], on_target, on_each);
      sum += expf(z);
      sum_q += q;
      if (q != 0) product += q * z;
    }
    sum = warp_sum(sum), sum_q = warp_sum(sum_q), product = warp_sum(product);
    if (lane() == 0) loss[row] = logf(sum) * sum_q - product;
    for (int64_t c = lane(); gradient && c < s.c; c += kWarp) {
      const float q = fmaf(target[at + c], on_target, on_each);
      gradient[at + c] = *scale * (expf(x[at + c] - high) / sum * sum_q - q);
    }
  });
}

struct Backward {
  CrossEntropyShape s;
  const float* dy;
  bool dy_per_sample;
  const float* gradient;
  float* dx;
  __device__ void operator()(int64_t at) const {
    const int64_t sample = at / (s.c * s.inner) * s.inner + at % s.inner;
    dx[at] = gradient[at] * dy[dy_per_sample ? sample : 0];
  }
};

void forward(const CrossEntropyShape& s, const CrossEntropyParams& params, const float* scale, const float* x,
             const int64_t* target, float* loss, float* gradient) {
  launch_rows("cross_entropy", cross_entropy_rows, s.n * s.inner, s, params, scale, x, target, loss, gradient);
}
void forward_shares(const CrossEntropyShape& s, const CrossEntropyParams& params, const float* scale, const float* x,
                    const float* target, float* loss, float* gradient) {
  launch_rows("cross_entropy", cross_entropy_rows_of_shares, s.n, s, params, scale, x, target, loss, gradient);
}
void backward(const CrossEntropyShape& s, const float* dy, bool dy_per_sample, const float* gradient, float* dx) {
  for_positions("cross_entropy backward", s.n * s.c * s.inner, Backward{s, dy, dy_per_sample, gradient, dx});
}

// One thread per sample: there are as many as images in a batch.
struct Right {
  int64_t c, ignore_index;
  const float* x;
  const int64_t* target;
  float* hit;
  __device__ void operator()(int64_t n) const {
    hit[n] = target[n] != ignore_index && arg_max(x + n * c, c) == target[n] ? 1.0f : 0.0f;
  }
};
struct RightShares {
  int64_t c;
  const float *x, *target;
  float* hit;
  __device__ void operator()(int64_t n) const {
    hit[n] = arg_max(x + n * c, c) == arg_max(target + n * c, c) ? 1.0f : 0.0f;
  }
};

void right(int64_t n, int64_t c, int64_t ignore_index, const float* x, const int64_t* target, float* hit) {
  for_positions("right answers", n, Right{c, ignore_index, x, target, hit});
}
void right_shares(int64_t n, int64_t c, const float* x, const float* target, float* hit) {
  for_positions("right answers", n, RightShares{c, x, target, hit});
}

}  // namespace

CrossEntropyKernels cross_entropy_kernels() { return {forward, forward_shares, right, right_shares, backward}; }

}  // namespace convcore::cuda

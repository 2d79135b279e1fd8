// Rows of cross_entropy with labels. Formulas: cross_entropy.cu.
#pragma once
#include "cuda/rows.cuh"
#include "ops/cross_entropy.h"

namespace convcore::cuda {

// By one warp: the loss of the row x[0], x[stride], ..., in every lane; its gradient like x, unless null.
CONVCORE_DEVICE float cross_entropy_row(int64_t classes, int64_t stride, const CrossEntropyParams& p, float scale,
                                        const float* x, int64_t label, float* gradient) {
  if (label == p.ignore_index) {
    for (int64_t c = lane(); gradient && c < classes; c += kWarp) gradient[c * stride] = 0;
    return 0;
  }
  const float on_target = 1.0f - p.label_smoothing, on_each = p.label_smoothing / float(classes);
  const float high = row_max(x, classes, stride);
  float sum = 0, sum_z = 0;
  for (int64_t c = lane(); c < classes; c += kWarp) {
    const float z = x[c * stride] - high;
    sum += expf(z);
    sum_z += z;
  }
  sum = warp_sum(sum), sum_z = warp_sum(sum_z);
  float value = logf(sum) - on_target * (x[label * stride] - high);
  if (p.label_smoothing > 0) value -= on_each * sum_z;  // a logit of -inf counts only when smoothing
  for (int64_t c = lane(); gradient && c < classes; c += kWarp) {
    const float share = expf(x[c * stride] - high) / sum;
    gradient[c * stride] = scale * (share - on_each - (c == label ? on_target : 0.0f));
  }
  return value;
}

// By one thread: the first of the largest; a NaN is larger than every number.
CONVCORE_DEVICE int64_t arg_max(const float* x, int64_t count) {
  int64_t best = 0;
  for (int64_t c = 1; c < count && x[best] == x[best]; c++)
    if (!(x[c] <= x[best])) best = c;
  return best;
}

}  // namespace convcore::cuda

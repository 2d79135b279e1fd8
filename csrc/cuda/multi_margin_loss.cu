// multi_margin_loss: one warp per sample; loss and gradient together, two passes over the classes. Bytes: x twice (once
// from the caches), the gradient once. A label is trusted: the caller checks them.
#include "ops/multi_margin_loss.h"

#include "cuda/rows.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

CONVCORE_KERNEL(kRowThreads)
multi_margin_loss_rows(int64_t n, int64_t c, bool squared, float margin, float scale, const float* x,
                       const int64_t* target, const float* weight, float* loss, float* gradient) {
  for_each_row(n, [&](int64_t row) {
    const float* scores = x + row * c;
    const int64_t label = target[row];
    const float offset = margin - scores[label], factor = (weight ? weight[label] : 1.0f) / float(c);
    const auto excess = [&](int64_t k) {  // a NaN stays
      const float z = scores[k] + offset;
      return k == label || z <= 0 ? 0.0f : z;
    };
    float total = 0;
    for (int64_t k = lane(); k < c; k += kWarp) {
      const float z = excess(k);
      total += squared ? z * z : z;
    }
    total = warp_sum(total);
    if (lane() == 0) loss[row] = total * factor;
    if (!gradient) return;
    const float each = factor * scale * (squared ? 2.0f : 1.0f);
    float pushes = 0;
    for (int64_t k = lane(); k < c; k += kWarp) {
      const float z = excess(k), g = squared ? z * each : z == 0 ? 0.0f : each;
      pushes += g;
      if (k != label) gradient[row * c + k] = g;
    }
    pushes = warp_sum(pushes);
    if (lane() == 0) gradient[row * c + label] = -pushes;
  });
}

void forward(int64_t n, int64_t c, const MultiMarginLossParams& params, float scale, const float* x,
             const int64_t* target, const float* weight, float* loss, float* gradient) {
  launch_rows("multi_margin_loss", multi_margin_loss_rows, n, n, c, params.p == 2, params.margin, scale, x, target,
              weight, loss, gradient);
}

}  // namespace

MultiMarginLossKernels multi_margin_loss_kernels() { return {forward}; }

}  // namespace convcore::cuda

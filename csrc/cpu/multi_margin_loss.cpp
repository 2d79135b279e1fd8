// multi_margin_loss: loss and gradient together, two passes over the classes of each sample: the terms that are not
// zero; then their gradients, which are linear in them. The lanes hold classes. Cost: a comparison and an addition per
// score.
#include "ops/multi_margin_loss.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

static constexpr int64_t kWork = 4;  // elementary operations per score

// max(0, margin - x[target] + x[c]) of classes from c on, 0 at the target itself and in the lanes past the last.
CONVCORE_INLINE Vec excess(const float* x, int64_t c, int64_t lanes, int64_t target, float offset) {
  const Vec z = load_lanes(x + c, lanes) + offset;
  const IntVec others = (lane_numbers() != splat_int(int32_t(target - c))) & lanes_below(lanes);
  return select(others, select(z <= Vec{}, Vec{}, z), Vec{});  // the comparison is false for NaN, which stays
}

static void forward_row(int64_t c_count, const MultiMarginLossParams& params, float factor, float scale, const float* x,
                        int64_t target, float* loss, float* gradient) {
  const float offset = params.margin - x[target];
  const bool squared = params.p == 2;
  Vec total{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec z = excess(x, c, lanes, target, offset);
    total += squared ? z * z : z;
  });
  *loss = sum(total) * factor;
  if (!gradient) return;
  const Vec each = splat(factor * scale * (squared ? 2 : 1));
  Vec pushes{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec z = excess(x, c, lanes, target, offset);
    const Vec g = squared ? z * each : select(z == Vec{}, Vec{}, each);
    pushes += g;
    store_lanes(gradient + c, g, lanes);
  });
  gradient[target] = -sum(pushes);
}

static void forward(int64_t n_count, int64_t c_count, const MultiMarginLossParams& params, float scale, const float* x,
                    const int64_t* target, const float* weight, float* loss, float* gradient) {
  parallel_for(n_count, c_count * kWork, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const float factor = (weight ? weight[target[n]] : 1.0f) / float(c_count);
      forward_row(c_count, params, factor, scale, x + n * c_count, target[n], loss + n,
                  gradient ? gradient + n * c_count : nullptr);
    }
  });
}

MultiMarginLossKernels multi_margin_loss_kernels();
MultiMarginLossKernels multi_margin_loss_kernels() { return {forward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

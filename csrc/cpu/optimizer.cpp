// optimizer: the updates of SGD and Adam, one pass over each parameter (formulas in ops/optimizer.h).
//
// Cost per element: SGD 2 to 4 multiply-adds, Adam some 8 operations with a root and a division; memory decides.
#include "ops/optimizer.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

// The gradient with weight decay. Without it the parameter stays out, so that an infinite one does not make NaN.
CONVCORE_INLINE Vec decayed(Vec grad, Vec param, float weight_decay) {
  return weight_decay != 0 ? grad + splat(weight_decay) * param : grad;
}

static void optimizer_sgd(int64_t count, const SgdFactors& f, float* param, const float* grad, float* buffer) {
  parallel_for_each_vector(count, 2, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    Vec g = decayed(load_partial(grad + i, lanes), p, f.weight_decay);
    if (buffer) {
      const Vec momentum = splat(f.momentum);
      const Vec b = f.first_step ? g : momentum * load_partial(buffer + i, lanes) + splat(f.grad_rate) * g;
      store_partial(buffer + i, b, lanes);
      g = f.nesterov ? g + momentum * b : b;
    }
    store_partial(param + i, p - splat(f.lr) * g, lanes);
  });
}

static void optimizer_adam(int64_t count, const AdamFactors& f, float* param, const float* grad, float* mean,
                           float* square) {
  parallel_for_each_vector(count, 3, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    const Vec g = decayed(load_partial(grad + i, lanes), p, f.weight_decay);
    const Vec old_mean = load_partial(mean + i, lanes), old_square = load_partial(square + i, lanes);
    const Vec m = old_mean + splat(f.mean_rate) * (g - old_mean);
    const Vec s = splat(f.square_keep) * old_square + splat(f.square_rate) * g * g;
    store_partial(mean + i, m, lanes);
    store_partial(square + i, s, lanes);
    const Vec root = square_root(s) * splat(f.root_scale) + splat(f.eps);
    store_partial(param + i, p * splat(f.shrink) - splat(f.step_size) * (m / root), lanes);
  });
}

OptimizerKernels optimizer_kernels();
OptimizerKernels optimizer_kernels() { return {optimizer_sgd, optimizer_adam}; }

}  // namespace convcore::cpu::CONVCORE_ISA

// optimizer: the updates of the optimizers, one pass over each parameter (formulas in ops/optimizer.h).
//
// Cost per element: SGD 2 to 4 multiply-adds, the others some 8 operations with a root and a division; memory decides.
#include "ops/optimizer.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

// The gradient with that of the penalty. Without weight decay the parameter stays out, so that an infinite one does not
// make NaN.
CONVCORE_INLINE Vec penalized(Vec grad, Vec param, const Penalty& penalty) {
  if (penalty.weight_decay != 0) grad += splat(penalty.weight_decay) * param;
  if (penalty.l1 == 0) return grad;
  const Vec l1 = splat(penalty.l1), zero{};
  return grad + select(param > zero, l1, select(param < zero, -l1, zero));
}

static void optimizer_sgd(int64_t count, const SgdFactors* factors, float* param, const float* grad, float* buffer) {
  const SgdFactors f = *factors;
  parallel_for_each_vector(count, 2, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    Vec g = penalized(load_partial(grad + i, lanes), p, f.penalty);
    if (buffer) {
      const Vec momentum = splat(f.momentum);
      const Vec b = f.first_step ? g : momentum * load_partial(buffer + i, lanes) + splat(f.grad_rate) * g;
      store_partial(buffer + i, b, lanes);
      g = f.nesterov ? g + momentum * b : b;
    }
    store_partial(param + i, p - splat(f.lr) * g, lanes);
  });
}

static void optimizer_adam(int64_t count, const AdamFactors* factors, float* param, const float* grad, float* mean,
                           float* square) {
  const AdamFactors f = *factors;
  parallel_for_each_vector(count, 3, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    const Vec g = penalized(load_partial(grad + i, lanes), p, f.penalty);
    const Vec old_mean = load_partial(mean + i, lanes), old_square = load_partial(square + i, lanes);
    const Vec m = old_mean + splat(f.mean_rate) * (g - old_mean);
    const Vec s = splat(f.square_keep) * old_square + splat(f.square_rate) * g * g;
    store_partial(mean + i, m, lanes);
    store_partial(square + i, s, lanes);
    const Vec root = square_root(s) * splat(f.root_scale) + splat(f.eps);
    store_partial(param + i, p * splat(f.shrink) - splat(f.step_size) * (m / root), lanes);
  });
}

static void optimizer_rmsprop(int64_t count, const RmspropFactors* factors, float* param, const float* grad,
                              float* square, float* mean, float* buffer) {
  const RmspropFactors f = *factors;
  parallel_for_each_vector(count, 3, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    const Vec g = penalized(load_partial(grad + i, lanes), p, f.penalty);
    const Vec s = splat(f.square_keep) * load_partial(square + i, lanes) + splat(f.rate) * g * g;
    store_partial(square + i, s, lanes);
    Vec spread = s;
    if (mean) {
      const Vec old_mean = load_partial(mean + i, lanes);
      const Vec m = old_mean + splat(f.rate) * (g - old_mean);
      store_partial(mean + i, m, lanes);
      spread -= m * m;
      spread = select(spread < Vec{}, Vec{}, spread);  // rounding: a variance is not negative
    }
    Vec h = g / (square_root(spread) + splat(f.eps));
    if (buffer) {
      h += splat(f.momentum) * load_partial(buffer + i, lanes);
      store_partial(buffer + i, h, lanes);
    }
    store_partial(param + i, p - splat(f.lr) * h, lanes);
  });
}

static void optimizer_adagrad(int64_t count, const AdagradFactors* factors, float* param, const float* grad,
                              float* sum) {
  const AdagradFactors f = *factors;
  parallel_for_each_vector(count, 3, [&](int64_t i, int64_t lanes) {
    const Vec p = load_partial(param + i, lanes);
    const Vec g = penalized(load_partial(grad + i, lanes), p, f.penalty);
    const Vec s = load_partial(sum + i, lanes) + g * g;
    store_partial(sum + i, s, lanes);
    store_partial(param + i, p - splat(f.step_size) * (g / (square_root(s) + splat(f.eps))), lanes);
  });
}

// A row is one thread's, so that its sum has the same bits at any number of threads.
static void optimizer_limit_norms(int64_t rows, int64_t columns, float max_norm, float* param) {
  parallel_for(rows, 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      float* row = param + r * columns;
      Vec squares{};
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vec v = load_partial(row + i, lanes);
        squares += v * v;
      });
      const float norm = __builtin_sqrtf(sum(squares));
      if (!(norm > max_norm)) continue;  // a NaN stays
      const Vec scale = splat(max_norm / norm);
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        store_partial(row + i, scale * load_partial(row + i, lanes), lanes);
      });
    }
  });
}

static void optimizer_mask(int64_t count, const float* keep, float* grad) {
  for (int64_t i = 0; i < count; i++) grad[i] = keep[i] != 0 ? grad[i] : 0;
}

static void optimizer_clip_factor(int64_t count, const double* squares, double max_norm, float* factor) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += squares[i];
  *factor = float(max_norm / (__builtin_sqrt(sum) + 1e-6));
}

static void optimizer_clip(int64_t count, const float* factor, float* grad) {
  const float scale = *factor;
  if (scale >= 1) return;
  for (int64_t i = 0; i < count; i++) grad[i] *= scale;
}

OptimizerKernels optimizer_kernels();
OptimizerKernels optimizer_kernels() {
  return {optimizer_sgd,         optimizer_adam, optimizer_rmsprop,     optimizer_adagrad,
          optimizer_limit_norms, optimizer_mask, optimizer_clip_factor, optimizer_clip};
}

}  // namespace convcore::cpu::CONVCORE_ISA

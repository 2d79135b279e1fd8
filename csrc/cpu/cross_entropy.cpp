// cross_entropy: loss and gradient together, three passes over the classes of each sample (maximum; exponentials and
// their sum; scaling). With z = x - max and s = sum exp(z):
//
//   loss = log(s) - (1 - smoothing) z[target] - smoothing / C * sum z        (every term >= 0: nothing cancels)
//   gradient = scale * (exp(z) / s - q)
//
// As in softmax.cpp, the lanes hold classes of one sample when inner is 1, and neighbouring samples otherwise.
// Cost: one exp per logit, one log per sample.
#include "ops/cross_entropy.h"

#include "cpu/elementwise.h"
#include "cpu/math.h"

namespace convcore::cpu::CONVCORE_ISA {

static constexpr int64_t kWork = 25;  // elementary operations per logit

// ---- classes in the lanes -----------------------------------------------------------------------------------------

static void forward_row(int64_t c_count, const CrossEntropyParams& params, float scale, const float* x, int64_t target,
                        float* loss, float* gradient) {
  if (target == params.ignore_index) {
    *loss = 0;
    if (gradient) for_each_vector(c_count, [&](int64_t c, int64_t lanes) { store_lanes(gradient + c, Vec{}, lanes); });
    return;
  }
  const float high = max_of_row(x, c_count);
  Vec e_lanes{}, z_lanes{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const IntVec inside = lanes_below(lanes);
    const Vec z = load_lanes(x + c, lanes) - high;
    const Vec e = exp(z);
    e_lanes += select(inside, e, Vec{});
    z_lanes += select(inside, z, Vec{});
    if (gradient) store_lanes(gradient + c, e, lanes);
  });
  const float s = sum(e_lanes), on_target = 1.0f - params.label_smoothing;
  const float on_each = params.label_smoothing / float(c_count);
  float value = log(splat(s))[0] - on_target * (x[target] - high);
  if (params.label_smoothing > 0) value -= on_each * sum(z_lanes);  // a logit of -inf counts only when smoothing
  *loss = value;
  if (!gradient) return;
  const Vec factor = splat(scale / s), uniform = splat(scale * on_each);
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    store_lanes(gradient + c, load_lanes(gradient + c, lanes) * factor - uniform, lanes);
  });
  gradient[target] -= scale * on_target;
}

// The same with t, the shares of the classes: loss = sum q * (log(s) - z), gradient = scale * (exp(z) / s * sum q - q).
// A class without a share counts for nothing, also where its logit is -inf.
static void forward_row_of_shares(int64_t c_count, const CrossEntropyParams& params, float scale, const float* x,
                                  const float* target, float* loss, float* gradient) {
  const float high = max_of_row(x, c_count);
  Vec e_lanes{}, q_lanes{}, product_lanes{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec e = exp(load_lanes(x + c, lanes) - high);
    e_lanes += select(lanes_below(lanes), e, Vec{});
    if (gradient) store_lanes(gradient + c, e, lanes);
  });
  const Vec on_target = splat(1.0f - params.label_smoothing), on_each = splat(params.label_smoothing / float(c_count));
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec z = load_lanes(x + c, lanes) - high;
    const Vec q = select(lanes_below(lanes), load_lanes(target + c, lanes) * on_target + on_each, Vec{});
    q_lanes += q;
    product_lanes += select(q == Vec{}, Vec{}, q * z);
  });
  const float s = sum(e_lanes), q_sum = sum(q_lanes);
  *loss = log(splat(s))[0] * q_sum - sum(product_lanes);
  if (!gradient) return;
  const Vec factor = splat(scale * q_sum / s), share = on_target * scale, even = on_each * scale;
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec all = load_lanes(gradient + c, lanes) * factor - even;
    store_lanes(gradient + c, all - load_lanes(target + c, lanes) * share, lanes);
  });
}

// ---- samples in the lanes -----------------------------------------------------------------------------------------

// Labels of the first `lanes` lanes, -1 where ignored and in the lanes past them.
static IntVec load_labels(const int64_t* target, int64_t lanes, int64_t ignore_index) {
  int32_t label[kLanes];
  for (int64_t j = 0; j < kLanes; j++) label[j] = j < lanes && target[j] != ignore_index ? int32_t(target[j]) : -1;
  return load_int(label);
}

static void forward_columns(const CrossEntropyShape& s, const CrossEntropyParams& params, float scale, const float* x,
                            const int64_t* target, float* loss, float* gradient, int64_t lanes) {
  const IntVec labels = load_labels(target, lanes, params.ignore_index), counted = labels >= 0;
  Vec high = splat(-__builtin_inff());
  for (int64_t c = 0; c < s.c; c++) {
    const Vec v = load_lanes(x + c * s.inner, lanes);
    high = select(v > high, v, high);
  }
  Vec e_sum{}, z_sum{}, z_target{};
  for (int64_t c = 0; c < s.c; c++) {
    const Vec z = load_lanes(x + c * s.inner, lanes) - high;
    const Vec e = exp(z);
    e_sum += e;
    z_sum += z;
    z_target = select(labels == splat_int(int32_t(c)), z, z_target);
    if (gradient) store_lanes(gradient + c * s.inner, e, lanes);
  }
  const float on_target = 1.0f - params.label_smoothing, on_each = params.label_smoothing / float(s.c);
  Vec value = log(e_sum) - z_target * on_target;
  if (params.label_smoothing > 0) value -= z_sum * on_each;  // a logit of -inf counts only when smoothing
  store_lanes(loss, select(counted, value, Vec{}), lanes);
  if (!gradient) return;
  const Vec factor = splat(scale) / e_sum, uniform = splat(scale * on_each), at_target = splat(scale * on_target);
  for (int64_t c = 0; c < s.c; c++) {
    Vec g = load_lanes(gradient + c * s.inner, lanes) * factor - uniform;
    g = g - select(labels == splat_int(int32_t(c)), at_target, Vec{});
    store_lanes(gradient + c * s.inner, select(counted, g, Vec{}), lanes);
  }
}

// ---- forward ------------------------------------------------------------------------------------------------------

static void forward(const CrossEntropyShape& s, const CrossEntropyParams& params, const float* given_scale,
                    const float* x, const int64_t* target, float* loss, float* gradient) {
  const float scale = *given_scale;
  if (s.inner == 1) {
    parallel_for(s.n, s.c * kWork, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++)
        forward_row(s.c, params, scale, x + n * s.c, target[n], loss + n, gradient ? gradient + n * s.c : nullptr);
    });
    return;
  }
  const int64_t blocks = (s.inner + kLanes - 1) / kLanes;
  parallel_for(s.n * blocks, s.c * kLanes * kWork, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t n = item / blocks, i = item % blocks * kLanes, at = n * s.c * s.inner + i;
      forward_columns(s, params, scale, x + at, target + n * s.inner + i, loss + n * s.inner + i,
                      gradient ? gradient + at : nullptr, min_of<int64_t>(kLanes, s.inner - i));
    }
  });
}

static void forward_shares(const CrossEntropyShape& s, const CrossEntropyParams& params, const float* given_scale,
                           const float* x, const float* target, float* loss, float* gradient) {
  const float scale = *given_scale;
  parallel_for(s.n, s.c * 2 * kWork, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      forward_row_of_shares(s.c, params, scale, x + n * s.c, target + n * s.c, loss + n,
                            gradient ? gradient + n * s.c : nullptr);
  });
}

// ---- right answers ------------------------------------------------------------------------------------------------

static int64_t arg_max(const float* x, int64_t count) {
  int64_t best = 0;
  for (int64_t c = 1; c < count && x[best] == x[best]; c++)
    if (!(x[c] <= x[best])) best = c;
  return best;
}

static void right(int64_t n, int64_t c, int64_t ignore_index, const float* x, const int64_t* target, float* hit) {
  for (int64_t k = 0; k < n; k++)
    hit[k] = target[k] != ignore_index && arg_max(x + k * c, c) == target[k] ? 1.0f : 0.0f;
}

static void right_shares(int64_t n, int64_t c, const float* x, const float* target, float* hit) {
  for (int64_t k = 0; k < n; k++) hit[k] = arg_max(x + k * c, c) == arg_max(target + k * c, c) ? 1.0f : 0.0f;
}

// ---- backward -----------------------------------------------------------------------------------------------------

static void backward(const CrossEntropyShape& s, const float* dy, bool dy_per_sample, const float* gradient,
                     float* dx) {
  if (!dy_per_sample) {
    const Vec by = splat(dy[0]);
    parallel_for_each_vector(s.n * s.c * s.inner, 2, [&](int64_t i, int64_t lanes) {
      store_lanes(dx + i, load_lanes(gradient + i, lanes) * by, lanes);
    });
    return;
  }
  parallel_for(s.n, s.c * s.inner * 2, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for (int64_t c = 0; c < s.c; c++) {
        const float* by = dy + n * s.inner;
        const int64_t at = (n * s.c + c) * s.inner;
        for (int64_t i = 0; i < s.inner; i++) dx[at + i] = gradient[at + i] * by[i];
      }
  });
}

CrossEntropyKernels cross_entropy_kernels();
CrossEntropyKernels cross_entropy_kernels() { return {forward, forward_shares, right, right_shares, backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

// group_norm: one group of one sample is one item. Its values are read two or three times in a row, from the cache:
// forward sum, sum of squared deviations, result; backward the two means, gradient. What is per channel is in all lanes
// where a channel has many values, and in the lanes (loaded with the values) where it has one: layer_norm.
//
// Sums of more than kPart values are made in parts, and the parts added in double.
#include "ops/group_norm.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int64_t kPart = 4096;

// The sum of term(i, lanes) over i = 0, kLanes, ... < count. Four sums side by side, since an addition waits for the
// last one of its own. `term` is zero in the lanes past the last.
template <typename F>
CONVCORE_INLINE double sum_of(int64_t count, const F& term) {
  double total = 0;
  for (int64_t part = 0; part < count; part += kPart) {
    const int64_t end = min_of(count, part + kPart);
    Vec sums[4] = {};
    int64_t i = part;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes)
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) sums[v] += term(i + v * kLanes, kLanes);
    for (; i < end; i += kLanes) sums[0] += term(i, min_of<int64_t>(kLanes, end - i));
    total += double(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
  return total;
}

// f(first value, number of values, weight, bias) for stretches of a group whose weights are known: a channel with its
// number in all lanes, or (kPerValue) the whole group, where Numbers loads them with the values.
template <bool kPerValue>
struct Numbers {
  const float* p;  // of the first channel, or null: `otherwise`
  float otherwise;
  inline __attribute__((always_inline)) Vec at(int64_t channel, int64_t value, int64_t lanes) const {
    if (!p) return splat(otherwise);
    return kPerValue ? load_lanes(p + value, lanes) : splat(p[channel]);
  }
};

// f(channel, first value, end) for the channels of a group; where each has one value, once for all of them.
template <bool kPerValue, typename F>
CONVCORE_INLINE void for_each_stretch(const GroupNormShape& s, const F& f) {
  if (kPerValue) return f(0, 0, s.channels);
  for (int64_t k = 0; k < s.channels; k++) f(k, k * s.plane, (k + 1) * s.plane);
}

static const float* of_group(const float* per_channel, int64_t group, const GroupNormShape& s) {
  return per_channel ? per_channel + group % s.groups * s.channels : nullptr;
}

// ---- forward ------------------------------------------------------------------------------------------------------

struct Statistics {
  float mean, rstd;
};

static Statistics statistics_of(const float* x, int64_t count, double eps) {
  const double total = sum_of(count, [=](int64_t i, int64_t lanes) { return load_lanes(x + i, lanes); });
  const float mean = float(total / double(count));
  const double squares = sum_of(count, [=](int64_t i, int64_t lanes) {
    Vec d = load_lanes(x + i, lanes) - mean;
    if (lanes < kLanes) d = select(lanes_below(lanes), d, Vec{});
    return d * d;
  });
  return {mean, float(1 / __builtin_sqrt(squares / double(count) + eps))};
}

template <bool kPerValue>
static void forward(const GroupNormShape& s, double eps, const float* x, const float* weight, const float* bias,
                    float* y, float* mean, float* rstd) {
  const int64_t count = s.per_group();
  parallel_for(s.n * s.groups, 3 * count, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; group++) {
      const float* from = x + group * count;
      const Statistics of = statistics_of(from, count, eps);
      mean[group] = of.mean, rstd[group] = of.rstd;
      if (!y) continue;
      float* to = y + group * count;
      const Numbers<kPerValue> w{of_group(weight, group, s), 1}, b{of_group(bias, group, s), 0};
      for_each_stretch<kPerValue>(s, [&](int64_t k, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i += kLanes) {
          const int64_t lanes = min_of<int64_t>(kLanes, last - i);
          const Vec scaled = (load_lanes(from + i, lanes) - of.mean) * (w.at(k, i, lanes) * of.rstd);
          store_lanes(to + i, scaled + b.at(k, i, lanes), lanes);
        }
      });
    }
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

// The sums over a group of g and of g * xhat, g = dy * weight.
template <bool kPerValue>
static void sums_of_group(const GroupNormShape& s, const float* dy, const float* x, const Statistics& of,
                          const Numbers<kPerValue>& w, double* of_g, double* of_products) {
  *of_g = *of_products = 0;
  for_each_stretch<kPerValue>(s, [&](int64_t k, int64_t first, int64_t last) {
    *of_g += sum_of(last - first, [&](int64_t i, int64_t lanes) {
      return load_lanes(dy + first + i, lanes) * w.at(k, first + i, lanes);
    });
    *of_products += sum_of(last - first, [&](int64_t i, int64_t lanes) {
      const Vec d = load_lanes(x + first + i, lanes) - of.mean;
      return load_lanes(dy + first + i, lanes) * w.at(k, first + i, lanes) * d;
    });
  });
  *of_products *= double(of.rstd);
}

// dx = rstd (g - center - (x - mean) slope), center = mean(g), slope = rstd mean(g xhat); a function of its own, or GCC
// keeps the constants on the stack.
template <bool kPerValue>
static __attribute__((noinline)) void gradient_of_stretch(const Statistics& of, float center, float slope,
                                                          const Numbers<kPerValue>& numbers, int64_t k, int64_t first,
                                                          int64_t last, const float* dy, const float* x, float* dx) {
  const Numbers<kPerValue> w = numbers;
  const Vec mean = splat(of.mean), rstd = splat(of.rstd), middle = splat(center), rate = splat(slope);
  const Vec of_channel = kPerValue && w.p ? Vec{} : w.at(k, 0, kLanes);
  const bool loads = kPerValue && w.p;
  for (int64_t i = first; i < last; i += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, last - i);
    const Vec g = load_lanes(dy + i, lanes) * (loads ? load_lanes(w.p + i, lanes) : of_channel) - middle;
    const Vec d = load_lanes(x + i, lanes) - mean;
    store_lanes(dx + i, (g - d * rate) * rstd, lanes);
  }
}

template <bool kPerValue>
static void backward_input(const GroupNormShape& s, const float* dy, const float* x, const float* mean,
                           const float* rstd, const float* weight, float* dx) {
  const int64_t count = s.per_group();
  parallel_for(s.n * s.groups, 4 * count, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; group++) {
      const Statistics of{mean[group], rstd[group]};
      const Numbers<kPerValue> w{of_group(weight, group, s), 1};
      const float *from = x + group * count, *gradient = dy + group * count;
      float* to = dx + group * count;
      double of_g, of_products;
      sums_of_group<kPerValue>(s, gradient, from, of, w, &of_g, &of_products);
      const float center = float(of_g / double(count));
      const float slope = float(double(of.rstd) * of_products / double(count));
      for_each_stretch<kPerValue>(s, [&](int64_t k, int64_t first, int64_t last) {
        gradient_of_stretch<kPerValue>(of, center, slope, w, k, first, last, gradient, from, to);
      });
    }
  });
}

// A channel of many values: sums over its plane, sample after sample.
static void backward_weight_of_planes(const GroupNormShape& s, const float* dy, const float* x, const float* mean,
                                      const float* rstd, float* dweight, float* dbias) {
  for (int64_t c = 0; c < s.all_channels(); c++) {
    double products = 0, total = 0;
    for (int64_t n = 0; n < s.n; n++) {
      const int64_t group = n * s.groups + c / s.channels, first = n * s.per_sample() + c * s.plane;
      const float center = mean[group];
      total += sum_of(s.plane, [=](int64_t i, int64_t lanes) { return load_lanes(dy + first + i, lanes); });
      if (!dweight) continue;
      products += double(rstd[group]) * sum_of(s.plane, [=](int64_t i, int64_t lanes) {
                    return load_lanes(dy + first + i, lanes) * (load_lanes(x + first + i, lanes) - center);
                  });
    }
    if (dweight) dweight[c] = float(products);
    if (dbias) dbias[c] = float(total);
  }
}

// A channel of one value: the lanes are channels.
static void backward_weight_of_values(const GroupNormShape& s, const float* dy, const float* x, const float* mean,
                                      const float* rstd, float* dweight, float* dbias) {
  const int64_t values = s.per_sample();
  for (float* sums : {dweight, dbias})
    if (sums) memset(sums, 0, size_t(values) * sizeof(float));
  for (int64_t group = 0; group < s.n * s.groups; group++) {
    const int64_t first = group * s.channels, c = group % s.groups * s.channels;
    for_each_vector(s.channels, [&](int64_t i, int64_t lanes) {
      const Vec g = load_lanes(dy + first + i, lanes);
      if (dbias) store_lanes(dbias + c + i, load_lanes(dbias + c + i, lanes) + g, lanes);
      if (!dweight) return;
      const Vec xhat = (load_lanes(x + first + i, lanes) - mean[group]) * rstd[group];
      store_lanes(dweight + c + i, load_lanes(dweight + c + i, lanes) + g * xhat, lanes);
    });
  }
}

// ---- the choice -----------------------------------------------------------------------------------------------------

static void group_norm_forward(const GroupNormShape& s, double eps, const float* x, const float* weight,
                               const float* bias, float* y, float* mean, float* rstd) {
  (s.plane == 1 ? forward<true> : forward<false>)(s, eps, x, weight, bias, y, mean, rstd);
}

static void group_norm_backward_input(const GroupNormShape& s, const float* dy, const float* x, const float* mean,
                                      const float* rstd, const float* weight, float* dx) {
  (s.plane == 1 ? backward_input<true> : backward_input<false>)(s, dy, x, mean, rstd, weight, dx);
}

static void group_norm_backward_weight(const GroupNormShape& s, const float* dy, const float* x, const float* mean,
                                       const float* rstd, float* dweight, float* dbias) {
  (s.plane == 1 ? backward_weight_of_values : backward_weight_of_planes)(s, dy, x, mean, rstd, dweight, dbias);
}

GroupNormKernels group_norm_kernels();
GroupNormKernels group_norm_kernels() {
  return {group_norm_forward, group_norm_backward_input, group_norm_backward_weight};
}

}  // namespace convcore::cpu::CONVCORE_ISA

// subsampling2d: what comes after the sums of the windows, which are the kernels of avg_pool2d: a factor and a summand
// per channel, and the gradients of both. One pass over memory each.
#include "ops/subsampling2d.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- forward ------------------------------------------------------------------------------------------------------

static void scale_planes(const ChannelsShape& s, const float* x, const float* weight, const float* bias, float* y) {
  parallel_for(s.n * s.c, s.plane, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) {
      const Vec w = splat(weight[plane % s.c]), b = splat(bias ? bias[plane % s.c] : 0);
      const float* from = x + plane * s.plane;
      float* to = y + plane * s.plane;
      for_each_vector(
          s.plane, [=](int64_t i, int64_t lanes) { store_lanes(to + i, load_lanes(from + i, lanes) * w + b, lanes); });
    }
  });
}

static void scale_pixels(const ChannelsShape& s, const float* x, const float* weight, const float* bias, float* y) {
  parallel_for(s.n * s.plane, s.c, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin; pixel < end; pixel++)
      for_each_vector(s.c, [&](int64_t k, int64_t lanes) {
        const Vec b = bias ? load_lanes(bias + k, lanes) : Vec{};
        store_lanes(y + pixel * s.c + k, load_lanes(x + pixel * s.c + k, lanes) * load_lanes(weight + k, lanes) + b,
                    lanes);
      });
  });
}

static void scale(const ChannelsShape& s, const float* x, const float* weight, const float* bias, float* y) {
  s.layout == Layout::channels_last ? scale_pixels(s, x, weight, bias, y) : scale_planes(s, x, weight, bias, y);
}

// ---- backward -----------------------------------------------------------------------------------------------------

static void sums_of_planes(const ChannelsShape& s, const float* dy, const float* values, float* dweight, float* dbias) {
  for (int64_t k = 0; k < s.c; k++) {
    Vec products{}, total{};
    for (int64_t n = 0; n < s.n; n++) {
      const int64_t first = (n * s.c + k) * s.plane;
      for_each_vector(s.plane, [&](int64_t i, int64_t lanes) {
        const Vec g = load_lanes(dy + first + i, lanes);
        total += g;
        if (dweight) products += g * load_lanes(values + first + i, lanes);
      });
    }
    if (dweight) dweight[k] = sum(products);
    if (dbias) dbias[k] = sum(total);
  }
}

static void sums_of_pixels(const ChannelsShape& s, const float* dy, const float* values, float* dweight, float* dbias) {
  for_each_vector(s.c, [&](int64_t k, int64_t lanes) {
    Vec products{}, total{};
    for (int64_t pixel = 0; pixel < s.n * s.plane; pixel++) {
      const Vec g = load_lanes(dy + pixel * s.c + k, lanes);
      total += g;
      if (dweight) products += g * load_lanes(values + pixel * s.c + k, lanes);
    }
    if (dweight) store_lanes(dweight + k, products, lanes);
    if (dbias) store_lanes(dbias + k, total, lanes);
  });
}

static void sums(const ChannelsShape& s, const float* dy, const float* values, float* dweight, float* dbias) {
  s.layout == Layout::channels_last ? sums_of_pixels(s, dy, values, dweight, dbias)
                                    : sums_of_planes(s, dy, values, dweight, dbias);
}

Subsampling2dKernels subsampling2d_kernels();
Subsampling2dKernels subsampling2d_kernels() { return {scale, sums}; }

}  // namespace convcore::cpu::CONVCORE_ISA

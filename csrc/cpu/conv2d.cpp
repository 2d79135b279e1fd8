// conv2d: the table of its kernels (conv2d/), and the gradient of the bias.
#include "ops/conv2d.h"

#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/pixel_sum.h"
#include "cpu/conv2d/weight_shards.h"
#include "cpu/conv2d/winograd.h"
#include "cpu/conv2d/winograd_weight.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// Sums that do not wait for each other.
static constexpr int kChains = 4;

// One channel per task, in the order of the images.
static void backward_bias_row_major(const Conv2dShape& s, const float* dy, float* db) {
  const int64_t pixels = s.h_out * s.w_out, whole = pixels / (kChains * kLanes) * (kChains * kLanes);
  parallel_for(s.c_out, s.n * pixels / kLanes + 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      Vec totals[kChains] = {};
      for (int64_t n = 0; n < s.n; n++) {
        const float* plane = dy + (n * s.c_out + k) * pixels;
        for (int64_t p = 0; p < whole; p += kChains * kLanes)
#pragma GCC unroll 4
          for (int i = 0; i < kChains; i++) totals[i] += load(plane + p + i * kLanes);
        for (int64_t p = whole; p < pixels; p += kLanes)
          totals[0] += load_partial(plane + p, min_of<int64_t>(kLanes, pixels - p));
      }
      db[k] = sum((totals[0] + totals[1]) + (totals[2] + totals[3]));
    }
  });
}

// Shards of the pixels, each in the order of the pixels and in float64: the sum may run over very many.
static void backward_bias_channels_last(const Conv2dShape& s, const float* dy, float* db) {
  constexpr int64_t kShards = 8, kShardPixels = 1024;  // at least so many pixels per shard
  const int64_t pixels = s.n * s.h_out * s.w_out;
  const int64_t shards = max_of<int64_t>(1, min_of(kShards, pixels / kShardPixels));
  const Buffer<double> totals(shards * s.c_out);
  parallel_for(shards, pixels / shards * ((s.c_out + kLanes - 1) / kLanes), [&](int64_t begin, int64_t end) {
    for (int64_t shard = begin; shard < end; shard++) {
      double* total = totals.data + shard * s.c_out;
      for (int64_t k = 0; k < s.c_out; k++) total[k] = 0;
      const int64_t last = pixels * (shard + 1) / shards;
      for (int64_t p = pixels * shard / shards, count; p < last; p += count) {
        count = min_of(kPixelRun, last - p);
        add_pixels(dy + p * s.c_out, count, s.c_out, total);
      }
    }
  });
  for (int64_t k = 0; k < s.c_out; k++) {
    double total = 0;
    for (int64_t shard = 0; shard < shards; shard++) total += totals.data[shard * s.c_out + k];
    db[k] = float(total);
  }
}

static void backward_bias(const Conv2dShape& s, const float* dy, Layout layout, float* db) {
  if (layout == Layout::row_major)
    backward_bias_row_major(s, dy, db);
  else
    backward_bias_channels_last(s, dy, db);
}

static WinogradShape winograd_shape(const Conv2dShape& s, int tile, bool backward) {
  return backward ? winograd_backward_input_shape(s, tile) : winograd_forward_shape(s, tile);
}

static WeightParts weight_parts(const Conv2dShape& s, float* data, int64_t stride, int64_t count) {
  return {data, count, s.taps(), s.c_in, s.c_out, stride};
}

Conv2dKernels conv2d_kernels();
Conv2dKernels conv2d_kernels() {
  Conv2dKernels k{};
  k.planar_forward = planar_forward;
  k.planar_backward_input = planar_backward_input;
  k.planar_backward_weight = planar_backward_weight;
  k.direct_forward = direct_forward;
  k.direct_backward_input = direct_backward_input;
  k.direct_backward_weight = direct_backward_weight;
  k.few_forward = few_forward;
  k.few_backward_weight = few_backward_weight;
  k.pointwise_forward = pointwise_forward;
  k.pointwise_backward_input = pointwise_backward_input;
  k.pointwise_backward_weight = pointwise_backward_weight;
  k.winograd_forward = winograd_forward;
  k.winograd_backward_input = winograd_backward_input;
  k.winograd_backward_weight = winograd_backward_weight;
  k.backward_bias = backward_bias;
  k.winograd_filter_floats = [](const Conv2dShape& s, int tile, bool backward) {
    return winograd_filter_floats(winograd_shape(s, tile, backward));
  };
  k.winograd_transform_filters = [](const Conv2dShape& s, int tile, bool backward, const float* w, float* u) {
    winograd_transform_filters(winograd_shape(s, tile, backward), w, u);
  };
  k.winograd_convolve = [](const Conv2dShape& s, int tile, bool backward, const float* in, const float* u,
                           const ConvEpilogue& epilogue,
                           float* out) { winograd_convolve(winograd_shape(s, tile, backward), in, u, epilogue, out); };
  k.weight_part_floats = [](const Conv2dShape& s) { return weight_parts(s, nullptr, 0, 1).part(); };
  k.weight_sum_floats = winograd_weight_sum_floats;
  k.winograd_weight_part = winograd_weight_part;
  k.sum_weight_parts = [](const Conv2dShape& s, const float* parts, int64_t stride, int64_t count, float* dw) {
    sum_weight_parts(weight_parts(s, const_cast<float*>(parts), stride, count), dw);
  };
  return k;
}

}  // namespace convcore::cpu::CONVCORE_ISA

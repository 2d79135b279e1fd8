// conv2d: the table of its kernels (conv2d/), and the gradient of the bias.
#include "ops/conv2d.h"

#include "core/threads.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/weight_shards.h"
#include "cpu/conv2d/winograd.h"
#include "cpu/conv2d/winograd_weight.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// One channel per task, in the order of the images.
static void backward_bias_row_major(const Conv2dShape& s, const float* dy, float* db) {
  const int64_t pixels = s.h_out * s.w_out, whole = pixels / kLanes * kLanes;
  parallel_for(s.c_out, s.n * pixels / kLanes + 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      Vec total{};
      for (int64_t n = 0; n < s.n; n++) {
        const float* plane = dy + (n * s.c_out + k) * pixels;
        for (int64_t p = 0; p < whole; p += kLanes) total += load(plane + p);
        total += load_partial(plane + whole, pixels - whole);
      }
      db[k] = sum(total);
    }
  });
}

// One vector of channels per task, in the order of the pixels, in float64: the sum may run over very many.
static void backward_bias_channels_last(const Conv2dShape& s, const float* dy, float* db) {
  const int64_t pixels = s.n * s.h_out * s.w_out, blocks = (s.c_out + kLanes - 1) / kLanes;
  parallel_for(blocks, pixels, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      const int64_t k = block * kLanes, lanes = min_of<int64_t>(kLanes, s.c_out - k);
      constexpr int64_t kRun = 256;  // pixels summed in float32 before they are added to the total
      double total[kLanes] = {};
      for (int64_t p0 = 0; p0 < pixels; p0 += kRun) {
        Vec run{};
        for (int64_t p = p0; p < min_of(pixels, p0 + kRun); p++) run += load_partial(dy + p * s.c_out + k, lanes);
        float values[kLanes];
        store(values, run);
        for (int64_t l = 0; l < lanes; l++) total[l] += double(values[l]);
      }
      for (int64_t l = 0; l < lanes; l++) db[k + l] = float(total[l]);
    }
  });
}

static void backward_bias(const Conv2dShape& s, const float* dy, Layout layout, float* db) {
  if (layout == Layout::row_major)
    backward_bias_row_major(s, dy, db);
  else
    backward_bias_channels_last(s, dy, db);
}

static WinogradShape winograd_shape(const Conv2dShape& s, bool backward) {
  return backward ? winograd_backward_input_shape(s) : winograd_forward_shape(s);
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
  k.winograd_filter_floats = [](const Conv2dShape& s, bool backward) {
    return winograd_filter_floats(winograd_shape(s, backward));
  };
  k.winograd_transform_filters = [](const Conv2dShape& s, bool backward, const float* w, float* u) {
    winograd_transform_filters(winograd_shape(s, backward), w, u);
  };
  k.winograd_convolve = [](const Conv2dShape& s, bool backward, const float* in, const float* u,
                           const ConvEpilogue& epilogue,
                           float* out) { winograd_convolve(winograd_shape(s, backward), in, u, epilogue, out); };
  k.weight_part_floats = [](const Conv2dShape& s) { return weight_parts(s, nullptr, 0, 1).part(); };
  k.winograd_weight_part = winograd_weight_part;
  k.sum_weight_parts = [](const Conv2dShape& s, const float* parts, int64_t stride, int64_t count, float* dw) {
    sum_weight_parts(weight_parts(s, const_cast<float*>(parts), stride, count), dw);
  };
  return k;
}

}  // namespace convcore::cpu::CONVCORE_ISA

// What a product reads, and what becomes of it on the way: batch norm, residual sum and ReLU of a layer before
// (ops/fused_conv.h), or the gradient through a batch norm. Images are channels-last.
#pragma once
#include "cuda/device.cuh"
#include "ops/fused_conv.h"

namespace convcore::cuda {

// FusedShortcut in the numbers that kernels use.
struct Shortcut {
  const float* values;  // null: nothing
  int h, w, c, step_h, step_w, before;
  bool same;  // the images themselves: element by element
};

enum class OperandKind { plain, affine, gradient };

// plain      v = data
// affine     v = relu((data - mean) * scale + bias + residual)
// gradient   v = scale * (data - bias - (x - mean) * slope)
struct Operand {
  const float* data;  // (images, h, w, c)
  int h, w, c;
  bool fours;  // channels may be read four at a time
  OperandKind kind;
  const float *mean, *scale, *bias, *slope;
  const float* x;
  Shortcut residual;
  BatchNormAffine residual_affine;  // mean null: the values as they are
  bool relu;
  float* stored;  // v goes there, too, or null
};

// kCount neighbouring floats, as one access where the address is a multiple of their size.
template <int kCount>
CONVCORE_DEVICE void load_floats(const float* from, float (&v)[kCount]) {
  if constexpr (kCount == 4) {
    const float4 four = load4(from);
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
  } else if constexpr (kCount == 2) {
    const float2 two = *reinterpret_cast<const float2*>(from);
    v[0] = two.x, v[1] = two.y;
  } else {
    static_assert(kCount == 1);
    v[0] = from[0];
  }
}
template <int kCount>
CONVCORE_DEVICE void store_floats(float* to, const float (&v)[kCount]) {
  if constexpr (kCount == 4) {
    store4(to, {v[0], v[1], v[2], v[3]});
  } else if constexpr (kCount == 2) {
    *reinterpret_cast<float2*>(to) = {v[0], v[1]};
  } else {
    static_assert(kCount == 1);
    to[0] = v[0];
  }
}

// What `pixel` of images (h, w), channels [channel, channel + kCount), meets through a shortcut taken as a residual.
template <int kCount>
CONVCORE_DEVICE void residual_at(const Shortcut& s, const BatchNormAffine& affine, int h, int w, int c, int pixel,
                                 int channel, float (&v)[kCount]) {
  if (s.same) {
    load_floats(s.values + int64_t(pixel) * c + channel, v);
  } else {
    const int image = pixel / (h * w), i = pixel / w - image * h, j = pixel % w;
    const float* from = s.values + int64_t((image * s.h + i * s.step_h) * s.w + j * s.step_w) * s.c;
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) {
      const int at = channel + k - s.before;
      v[k] = unsigned(at) < unsigned(s.c) ? from[at] : 0.0f;
    }
  }
  if (!affine.mean) return;
  CONVCORE_UNROLL
  for (int k = 0; k < kCount; k++)
    v[k] = fmaf(v[k] - affine.mean[channel + k], affine.scale[channel + k], affine.bias[channel + k]);
}

// The same taken as a gradient; what is beyond `channels` is zero.
template <int kCount>
CONVCORE_DEVICE void shortcut_gradient_at(const Shortcut& s, int h, int w, int pixel, int channel, float (&v)[kCount]) {
  const int image = pixel / (h * w), i = pixel / w - image * h, j = pixel % w;
  const bool hit = i % s.step_h == 0 && j % s.step_w == 0;
  const float* from = s.values + int64_t((image * s.h + i / s.step_h) * s.w + j / s.step_w) * s.c;
  CONVCORE_UNROLL
  for (int k = 0; k < kCount; k++) {
    const int at = channel + k + s.before;
    v[k] = hit && unsigned(at) < unsigned(s.c) ? from[at] : 0.0f;
  }
}

// What an operand may be, for the compiler to leave out the rest.
constexpr int kAffine = 1, kResidual = 2, kGradient = 4;  // affine without a residual, with one, gradient

// Turns what was read of channels [channel, channel + kCount) into v; these are all there.
template <int kCount, int kKinds>
class Transform {
 public:
  __device__ Transform(const Operand& in, int channel) : in_(in), channel_(channel) {
    load_floats(in.mean + channel, mean_);
    load_floats(in.scale + channel, scale_);
    load_floats(in.bias + channel, bias_);
    if (gradient()) load_floats(in.slope + channel, slope_);
  }
  // What else is needed of a pixel: x, or the residual part. A step of its own, so that several can be under way.
  __device__ void fetch(int pixel, float (&other)[kCount]) const {
    if (gradient()) {
      load_floats(in_.x + int64_t(pixel) * in_.c + channel_, other);
    } else if ((kKinds & kResidual) != 0 && in_.residual.values) {
      residual_at(in_.residual, in_.residual_affine, in_.h, in_.w, in_.c, pixel, channel_, other);
    } else {
      CONVCORE_UNROLL
      for (int k = 0; k < kCount; k++) other[k] = 0;
    }
  }
  __device__ void apply(const float (&other)[kCount], float (&v)[kCount]) const {
    if (gradient()) {
      CONVCORE_UNROLL
      for (int k = 0; k < kCount; k++) v[k] = scale_[k] * (v[k] - bias_[k] - (other[k] - mean_[k]) * slope_[k]);
      return;
    }
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) v[k] = fmaf(v[k] - mean_[k], scale_[k], bias_[k]) + other[k];
    if (!in_.relu) return;
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) v[k] = v[k] <= 0 ? 0.0f : v[k];  // NaN passes
  }

 private:
  __device__ bool gradient() const {
    return kKinds == kGradient || ((kKinds & kGradient) != 0 && in_.kind == OperandKind::gradient);
  }
  const Operand& in_;
  int channel_;
  float mean_[kCount], scale_[kCount], bias_[kCount], slope_[kCount];
};

}  // namespace convcore::cuda

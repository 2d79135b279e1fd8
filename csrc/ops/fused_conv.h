// Convolutions of which batch norm, ReLU and residual sums are a part, so that these cost no kernels of their own.
// Entries of the CUDA table; null on the CPU, whose plan keeps blocks of images in the cache instead.
//
// A batch norm in training needs two passes over its input x: sums first, then y = relu(norm(x) + residual). Here the
// sums are made by the convolution that writes x, and y by the one that reads it:
//
//   forward        v = what `in` describes, made as it is read;   x = conv(v);   mean, rstd, scale, shift of x
//   backward       dx = what `dy` describes, made as it is read; dv = conv^T(dx) + add; dz = dv where v > 0, and
//                  from its sums what the batch norm before needs; and dw = the parts of sum dx v
//
// Images are channels-last, n of them in every call; groups = 1. Pointers are to device memory; a call starts the work
// and returns. The structs hold pointers and sizes only.
#pragma once
#include "ops/batch_norm.h"
#include "ops/conv2d.h"
#include "ops/cross_entropy.h"

namespace convcore {

// Images (h, w, c) seen from images with more or fewer pixels and channels, as the shortcuts of residual networks do
// it. As a residual:      element (i, j, k) is values[i * step_h][j * step_w][k - before]. As a gradient:
//                         element (i, j, k) is values[i / step_h][j / step_w][k + before] where the steps divide.
// What lies outside of the channels is zero. The identity: the sizes of the images themselves, steps 1, before 0.
struct FusedShortcut {
  const float* values = nullptr;  // (N, h, w, c); null: nothing is added
  int64_t h = 0, w = 0, c = 0;
  int64_t step_h = 1, step_w = 1, before = 0;
};

// v = relu((x - mean) * scale + bias + residual), of the shape of x (N, H, W, C).
struct FusedInput {
  const float* x = nullptr;
  BatchNormAffine affine = {};           // affine.mean null: v = x, and the rest is not read
  FusedShortcut residual = {};           // as a residual
  BatchNormAffine residual_affine = {};  // of the residual's values; mean null: as they are
  bool relu = false;                     // NaN passes
  float* stored = nullptr;               // v is written there, too; null: nowhere
};

// The batch norm of the output: its sums are made about running_mean, or about 0 when that is null.
struct FusedStatistics {
  float *mean = nullptr, *rstd = nullptr, *scale = nullptr, *shift = nullptr;  // (C): made. mean null: no batch norm.
  const float *weight = nullptr, *bias = nullptr;                              // (C), or null
  float *running_mean = nullptr, *running_var = nullptr;                       // (C): updated; or both null
  double momentum = 0, eps = 0;
  unsigned* arrivals = nullptr;  // one number, 0 before and after; of this call alone
};

// dx = scale * (dz - center - (x - mean) * slope); with batch_norm.scale null dx = dz.
struct FusedGradient {
  const float *dz = nullptr, *x = nullptr;  // (N, H, W, C)
  BatchNormInputGradient batch_norm = {};
};

// What becomes of the gradient dv of v: dz = dv + add where v > 0 (with relu; else all of it). With `sums`, mean, the
// sums of dz and dz * (x - mean) and from them what FusedGradient takes.
struct FusedGradientSums {
  FusedShortcut add = {};  // as a gradient
  bool relu = false;
  const float* y = nullptr;     // v, for the sign; null with relu: v = affine(x) is made again, without residual
  const float* x = nullptr;     // what the batch norm normalised (N, H, W, C); null: no batch norm, dz alone
  BatchNormAffine affine = {};  // of that batch norm
  const float *rstd = nullptr, *weight = nullptr;               // (C), weight or null
  float *scale = nullptr, *center = nullptr, *slope = nullptr;  // (C): made
  float *dweight = nullptr, *dbias = nullptr;                   // (C): made, or null
  unsigned* arrivals = nullptr;                                 // as above
};

struct FusedConvKernels {
  // Whether the entries below take this convolution, with `stored` or without.
  bool (*takes)(const Conv2dShape&, bool stored);
  // packed (C_out, taps, C_in) and turned (C_in, taps, C_out) hold w (C_out, C_in, taps): optimizer_many.h.
  void (*forward)(const Conv2dShape&, const FusedInput& in, const float* packed, const float* bias /* or null */,
                  const FusedStatistics&, float* y);
  // Both gradients by one kernel. Either is null where it is not wanted: dz (N, H_in, W_in, C_in), parts
  // (weight_splits, C_out, taps, C_in). in.stored is not written: where it is given, v is read from there. With a
  // residual it must be given.
  void (*backward)(const Conv2dShape&, const FusedGradient& dy, const FusedInput& in, const float* turned,
                   const FusedGradientSums&, float* dz, float* parts);
  int64_t (*weight_splits)(const Conv2dShape&);  // by the shape alone
  // dw (C_out, C_in, taps) = the sum of the parts, in order. (The optimizer does this on the way.)
  void (*sum_parts)(const Conv2dShape&, const float* parts, float* dw);
};

// The end of a network for classification: v as in FusedInput, its mean over the pixels, a dense layer, softmax and
// cross-entropy with labels. Two kernels, forwards (with the gradients of logits and features) and backwards.
struct FusedHeadShape {
  int64_t n, pixels, c, classes;
};
struct FusedHeadKernels {
  // scale: of the gradient, one number in device memory. Everything after it is written: features (N, C) the means,
  // logits (N, classes), loss and right (N) (right: 1 where the largest logit, the first of them, is the label's),
  // dlogits (N, classes), dfeatures (N, C). in.stored as above; in.residual must be of the shape of x.
  void (*forward)(const FusedHeadShape&, const FusedInput& in, const float* w /* (classes, C) */,
                  const float* b /* or null */, const int64_t* labels, const CrossEntropyParams&, const float* scale,
                  float* features, float* logits, float* loss, float* right, float* dlogits, float* dfeatures);
  // dz and its sums as in FusedGradientSums (add is not read), dw (classes, C), db (classes) or null.
  void (*backward)(const FusedHeadShape&, const float* dlogits, const float* dfeatures, const float* features,
                   const FusedGradientSums&, float* dz, float* dw, float* db);
};

}  // namespace convcore

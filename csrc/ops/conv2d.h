// conv2d: 2-D cross-correlation of images, and its gradients.
//
//   y[n,k,i,j] = b[k] + sum_{c,r,s} w[k,c,r,s] * x[n, c, i*stride_h + r*dilation_h - pad_h, j*stride_w + ... - pad_w]
//
// x (N, C_in, H_in, W_in), w (C_out, C_in / groups, KH, KW), b (C_out,) or none, y (N, C_out, H_out, W_out); float32.
// With groups, output channels [g * C_out/groups, ...) see only input channels [g * C_in/groups, ...).
// 1-D convolution is the same with H_in = KH = 1.
//
// Images come in either order of memory (core/array.h); results come in the order that the algorithm works in.
#pragma once
#include "core/array.h"
#include "core/window.h"

namespace convcore {

// The algorithms; conv2d_algorithm.h says which one is taken when.
enum class ConvAlgorithm { automatic, planar, direct, gemm, winograd, winograd2x2 };

struct Conv2dParams {  // as the caller gives them; the kernel size comes from w
  std::array<int64_t, 2> stride;
  std::array<int64_t, 4> padding;  // top, bottom, left, right
  std::array<int64_t, 2> dilation;
  int64_t groups;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

struct Conv2dShape {  // every number a kernel needs; made only by infer_conv2d_shape
  int64_t n, c_in, h_in, w_in, c_out, h_out, w_out, groups;
  Window2d window;
  int64_t c_in_per_group() const { return c_in / groups; }
  int64_t c_out_per_group() const { return c_out / groups; }
  int64_t taps() const { return window.h.kernel * window.w.kernel; }
};

// `op` ("conv2d" or "conv1d") is for the error messages; for conv1d the shapes have H = 1.
Conv2dShape infer_conv2d_shape(const char* op, const Shape& x, const Shape& w, const Conv2dParams& params);

Tensor conv2d_forward(const char* op, const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dParams& params);

struct Conv2dGrads {
  Tensor dx, dw, db;  // not given where not asked for
};
Conv2dGrads conv2d_backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& w,
                            const Conv2dParams& params, bool need_dx, bool need_dw, bool need_db);

// When the result is the gradient of what a batch norm (with ReLU) left, the first half of its backward pass: with
// dz = result where y > 0 and 0 elsewhere, dz is stored, sum_dz[c] += sum dz and sum_dz_x[c] += sum dz * (x - mean[c]).
struct ConvGradientSums {
  const float* x = nullptr;  // what was normalised, an array like the result; null: no sums
  const float* y = nullptr;  // what the batch norm left, or null: dz = result
  const float* mean = nullptr;
  double *sum_dz = nullptr, *sum_dz_x = nullptr;
};

// What happens to a result before it is stored: out = relu(result + bias + add), or the sums.
struct ConvEpilogue {
  const float* bias = nullptr;  // (c_out) or null
  const float* add = nullptr;   // an array like the result, or null; may be the result's own memory
  bool relu = false;            // NaN passes
  ConvGradientSums sums = {};   // on the calling thread; not with relu
};

struct Conv2dKernels {  // contracts: cpu/conv2d/kernels.h
  void (*planar_forward)(const Conv2dShape&, const float* x, const float* w, const float* b /* or null */, float* y);
  void (*planar_backward_input)(const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);
  void (*planar_backward_weight)(const Conv2dShape&, const float* dy, const float* x, float* dw);
  void (*direct_forward)(const Conv2dShape&, const float* x, Layout, const float* w, const float* b, float* y);
  void (*direct_backward_input)(const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);
  void (*direct_backward_weight)(const Conv2dShape&, const float* dy, const float* x, float* dw);
  void (*few_forward)(const Conv2dShape&, const float* x, Layout, const float* w, const float* b, float* y);
  void (*few_backward_weight)(const Conv2dShape&, const float* dy, const float* x, float* dw, float* db /* or null */);
  void (*pointwise_forward)(const Conv2dShape&, const float* x, const float* w, const float* b, float* y);
  void (*pointwise_backward_input)(const Conv2dShape&, const float* dy, const float* w, float* dx);
  void (*pointwise_backward_weight)(const Conv2dShape&, const float* dy, const float* x, float* dw);
  // Winograd's output tiles are `tile` x `tile` pixels: 4 or 2.
  void (*winograd_forward)(const Conv2dShape&, int tile, const float* x, const float* w, const float* b, float* y);
  void (*winograd_backward_input)(const Conv2dShape&, int tile, const float* dy, const float* w, float* dx);
  void (*winograd_backward_weight)(const Conv2dShape&, const float* dy, const float* x, float* dw);
  void (*backward_bias)(const Conv2dShape&, const float* dy, Layout, float* db);
  // Winograd in two steps, for callers that keep the transformed filters: forward, or the gradient of the input.
  int64_t (*winograd_filter_floats)(const Conv2dShape&, int tile, bool backward);
  void (*winograd_transform_filters)(const Conv2dShape&, int tile, bool backward, const float* w, float* u);
  void (*winograd_convolve)(const Conv2dShape&, int tile, bool backward, const float* in, const float* u,
                            const ConvEpilogue&, float* out);
  // The gradient of the weight as partial sums in the kernel's own order: `part` is that of the images of all calls
  // from the `first` to the `last`, complete after the last; sum_weight_parts adds `count` of them, `stride` floats
  // apart, in order. `sums` keeps weight_sum_floats between these calls (0: none, null). On the calling thread.
  int64_t (*weight_part_floats)(const Conv2dShape&);
  int64_t (*weight_sum_floats)(const Conv2dShape&);
  void (*winograd_weight_part)(const Conv2dShape&, const float* dy, const float* x, float* sums, bool first, bool last,
                               float* part);
  void (*sum_weight_parts)(const Conv2dShape&, const float* parts, int64_t stride, int64_t count, float* dw);
};
}  // namespace convcore

// conv2d_relu_max_pool2d: convolution, ReLU and 2x2 max pooling as one operation, and its gradients.
//
//   y = max_pool2d(relu(conv2d(x, w, b, padding)), 2)
//
// Stride 1, no dilation, one group; pooling windows of 2x2 side by side, so that with an odd number of rows or columns
// the last one is dropped, as in max_pool2d. The result of the convolution is never stored: the kernel keeps which of
// the four won and whether it is positive, three bits per output, and the gradients visit the winners only, a quarter
// of what those of the separate operations do. Rules for equal values and NaN: ops/max_pool2d.h, ops/activation.h.
#pragma once
#include "ops/conv2d.h"

namespace convcore {

struct ConvPoolShape {  // every number a kernel needs; made only by infer_conv_pool_shape
  int64_t n, c_in, h_in, w_in, c_out, kh, kw;
  int64_t pad_top, pad_left, pad_bottom, pad_right;
  int64_t h_conv, w_conv, h_out, w_out;  // after the convolution, after pooling
  Layout y_layout;                       // of y and dy
};

// The padding is top, bottom, left, right. `y_layout` is not inferred: any will do.
ConvPoolShape infer_conv_pool_shape(const char* op, const Shape& x, const Shape& w,
                                    const std::array<int64_t, 4>& padding, Layout y_layout);

// The order of memory of x and dx, which the shape decides: row-major where there are few output channels and lanes are
// pixels, else channels-last.
constexpr int64_t kConvPoolFewChannels = 12;  // fewer leave too many lanes empty
inline Layout conv_pool_x_layout(const ConvPoolShape& s) {
  return s.c_out < kConvPoolFewChannels ? Layout::row_major : Layout::channels_last;
}

// x and y in either order of memory; b may be not given.
Tensor conv_pool_forward(const char* op, const Tensor& x, const Tensor& w, const Tensor& b,
                         const std::array<int64_t, 4>& padding);

// Runs the forward pass again, for what it kept.
Conv2dGrads conv_pool_backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& b,
                               const std::array<int64_t, 4>& padding, bool need_dx);

// All but the last four run on the calling thread: the caller shares blocks of images out. `packed`, `workspace` and
// `gradient` are best aligned to kAlignment. The shape's n is the number of images of the block; sizes in floats and
// bytes do not depend on it.
struct ConvPoolKernels {
  // Weights and bias as the kernels read them, in both directions; b may be null.
  int64_t (*packed_floats)(const ConvPoolShape&);
  void (*pack)(const ConvPoolShape&, const float* w, const float* b, float* packed);

  // Of one image: what the gradients need to know of the forward pass.
  int64_t (*mask_bytes)(const ConvPoolShape&);
  // Scratch of one call.
  int64_t (*workspace_floats)(const ConvPoolShape&);
  void (*forward)(const ConvPoolShape&, const float* x, const float* packed, float* y, void* mask, float* workspace);

  // Partial dw and db in the kernels' own order: cleared by the caller, added to by `backward`, and added up over
  // `count` >= 1 of them, in their order.
  int64_t (*gradient_floats)(const ConvPoolShape&);
  void (*backward)(const ConvPoolShape&, const float* dy, const void* mask, const float* x, const float* packed,
                   float* dx /* or null */, float* gradient, float* workspace);
  void (*sum_gradients)(const ConvPoolShape&, const float* const* gradients, int64_t count, float* dw, float* db);

  // The whole batch in one call, where a device shares the work out itself: these on CUDA, all of the above on the CPU;
  // the others are null. Channels-last images (also dy, dx: y_layout), weights and bias (or null) as they are.
  int64_t (*batch_mask_bytes)(const ConvPoolShape&) = nullptr;
  int64_t (*batch_workspace_floats)(const ConvPoolShape&) = nullptr;  // scratch of one call of either
  void (*batch_forward)(const ConvPoolShape&, const float* x, const float* w, const float* b, float* y,
                        void* mask /* or null */, float* workspace) = nullptr;
  // dx, dw and db are null where not needed.
  void (*batch_backward)(const ConvPoolShape&, const float* dy, const void* mask, const float* x, const float* w,
                         float* dx, float* dw, float* db, float* workspace) = nullptr;
};
}  // namespace convcore

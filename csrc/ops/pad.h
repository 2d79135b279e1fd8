// pad: pixels around images, zeros (or another constant) or made of the image itself; and its gradient.
//
//   y[n,c,i,j] = x[n, c, row(i - top), column(j - left)]
//
// For rows (and columns alike) of an image of `size`, with p = i - top:
//   constant   p inside the image, else y = value
//   reflect    -p before the image, 2 (size - 1) - p after: mirrored about the edge pixel, which is not repeated
//   replicate  the nearest pixel: the edge
//   circular   p modulo size: the image repeats
//
//   dx[n,c,h,w] = sum of dy over the pixels that were made from it, in row-major order
//
// x (N, C, H, W) in either order of memory, or (N, C, W), which is padded along W alone; float32. Padding by reflection
// is less than the size, circular at most the size (torch's rules); replicate and circular need a pixel.
#pragma once
#include "core/array.h"

namespace convcore {

enum class PadMode { constant, reflect, replicate, circular };

struct PadParams {
  PadMode mode;
  float value;  // of constant
  int64_t top, bottom, left, right;
};

// "constant", "reflect", "replicate" or "circular".
PadMode parse_pad_mode(const char* op, const std::string& text);

Tensor pad_forward(const Tensor& x, const PadParams& params);
Tensor pad_backward(const Tensor& dy, const Shape& x_shape, const PadParams& params);

struct PadShape {
  int64_t n, c, h_in, w_in, h_out, w_out;
  PadParams params;
};

struct PadKernels {
  void (*forward)(const PadShape&, Layout, const float* x, float* y);
  void (*backward)(const PadShape&, Layout, const float* dy, float* dx);
};

// Checks everything. `x` is the shape of a batch.
PadShape infer_pad_shape(const char* op, const Shape& x, const PadParams& params);

}  // namespace convcore

// transform_images: a batch of images picked from a data set, each sent through a list of transforms with random
// numbers of its own. There is no gradient.
//
//   x (M, C, H, W) uint8 or float32, row-major; indices (N,), 0 to M - 1
//   y[n] = the transforms, one after the other, of scale * x[indices[n]];  (N, C', H', W') float32
//   with partners (N,) and weights (N,):  y[n] = weights[n] * y[n] + (1 - weights[n]) * (the same for x[partners[n]])
//
// Transform number s of the list takes its random numbers for image i from the stream substream(key, i, s): what
// becomes of an image depends on the key, the list and the image, not on its place in the batch or on the threads.
// Values are meant to be in 0 to 1 where a transform says so. The transforms, and which numbers they draw, are in
// csrc/ops/transforms; python/convcore/reference/transforms.py says the same in NumPy.
#pragma once
#include <string>
#include <vector>

#include "core/array.h"
#include "core/random.h"

namespace convcore {

// One transform and its numbers, as python/convcore/transforms.py writes them down.
struct TransformStage {
  std::string kind;
  std::vector<double> values;
};

struct TransformParams {
  std::vector<TransformStage> stages;
  RandomKey key{};
  float scale = 1;
  LabelArray partners{};  // of mixup, or not given
  Tensor weights{};
};

// T: uint8_t or float.
template <typename T>
Tensor transform_images(const Array<T>& x, const LabelArray& indices, const TransformParams&);

// The same with results of uint8: round(255 y), at least 0 and at most 255.
template <typename T>
Array<uint8_t> transform_images_to_bytes(const Array<T>& x, const LabelArray& indices, const TransformParams&);

// What mixup draws for each of the images `indices`: a partner, 0 to count - 1, and its own weight, Beta(alpha, alpha).
struct Mixup {
  LabelArray partners;
  Tensor weights;
};
Mixup mixup_pairs(const LabelArray& indices, int64_t count, double alpha, RandomKey, int64_t use);

struct ImageShape {
  int64_t c, h, w;
  int64_t count() const { return c * h * w; }
};

// For each output of a line: the inputs from first[i] on, taps of them, with weights[t * size + i].
struct ResizeTaps {
  int64_t size, taps;
  const int32_t* first;
  const float* weights;
};

// A piece of every plane: rows top to top + h - 1, columns left to left + w - 1.
struct ImageBox {
  int64_t top, left, h, w;
};

// All on planes (C, H, W) of one image, on the calling thread. x and y do not overlap; "in place" has x alone. The
// short arrays of numbers (fill, value, scale, shift, taps, weights) are in the host's memory on every device.
struct TransformImagesKernels {
  void (*from_bytes)(int64_t count, float scale, const uint8_t* x, float* y);  // y = scale * x
  void (*from_floats)(int64_t count, float scale, const float* x, float* y);
  void (*to_bytes)(int64_t count, const float* x, uint8_t* y);             // y = round(255 x), cut off at 0 and 255
  void (*mix)(int64_t count, float weight, const float* other, float* x);  // x = weight * x + (1 - weight) * other

  // y is the box of x; what lies outside of x is fill[c].
  void (*crop)(const ImageShape&, const ImageBox&, const float* fill, const float* x, float* y);
  void (*flip)(const ImageShape&, bool horizontal, const float* x, float* y);
  void (*quarter_turns)(const ImageShape&, int64_t turns, const float* x, float* y);  // 1 to 3, counter-clockwise
  // Turned counter-clockwise around the centre: bilinear, with fill[c] in the place of every pixel outside.
  void (*rotate)(const ImageShape&, float cosine, float sine, const float* fill, const float* x, float* y);
  // The box of x, resized; scratch: box.h * columns.size.
  void (*resize)(const ImageShape&, const ImageBox&, const ResizeTaps& rows, const ResizeTaps& columns, const float* x,
                 float* scratch, float* y);
  void (*fill)(const ImageShape&, const ImageBox&, const float* value, float* x);  // in place

  // Colour. In place, results cut off at 0 and 1; three channels are red, green, blue.
  void (*brightness)(const ImageShape&, float factor, float* x);
  void (*contrast)(const ImageShape&, float factor, float* x);
  void (*saturation)(const ImageShape&, float factor, float* x);  // three channels
  void (*hue)(const ImageShape&, float turn, float* x);           // three channels; turn from -1 to 1
  void (*grayscale)(const ImageShape&, int64_t channels_out, const float* x, float* y);  // three channels to 1 or 3

  // x += mean + sigma * normal numbers of the stream; clip: cut off at 0 and 1. In place.
  void (*noise)(int64_t count, RandomKey, float mean, float sigma, bool clip, float* x);
  // Separable, with an odd number of weights each, fewer than 2 h or 2 w; mirrored at the border without repeating the
  // outermost pixels. scratch: h * w + w + columns.
  void (*blur)(const ImageShape&, int64_t rows, const float* row_weights, int64_t columns, const float* column_weights,
               const float* x, float* scratch, float* y);
  // The length of Sobel's gradient, at most 1; the border is repeated outwards. scratch: 2 (w + 2).
  void (*sobel)(const ImageShape&, const float* x, float* scratch, float* y);
  void (*normalize)(const ImageShape&, const float* scale, const float* shift, float* x);  // per channel, in place
};
}  // namespace convcore

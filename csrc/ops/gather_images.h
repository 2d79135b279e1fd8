// gather_images: a batch of images picked from a data set in memory, cropped, mirrored and normalised on the way.
//
//   x (M, C, H, W) uint8 or float32, row-major; indices (N,), 0 to M - 1; y (N, C, H, W) float32, in either order of
//   memory y[n][c][i][j] = scale[c] * x[indices[n]][c][i + top - pad][j' + left - pad] + shift[c], with 0 for pixels
//   outside of x j' = W - 1 - j where the image is mirrored, else j
//
// Without pad, top = left = pad = 0, without flip no image is mirrored; without scale and shift the values stay as they
// are. Otherwise random numbers decide: top and left are each of 0 to 2 pad, and mirrored is one of two, with equal
// probability. They are those of transform_images for a crop, if there is a pad, and then a flip: what becomes of an
// image depends on the key and on the image alone, not on its place in the batch or on the threads. There is no
// gradient.
#pragma once
#include "core/array.h"
#include "core/random.h"

namespace convcore {

struct GatherImagesParams {  // the pointers are to the device of the images
  int64_t pad = 0;
  RandomKey key{};
  const float* scale = nullptr;  // one per channel; null together with shift
  const float* shift = nullptr;
  bool flip = false;
  Layout layout = Layout::row_major;  // of y
};

// T: uint8_t or float.
template <typename T>
Tensor gather_images(const Array<T>& x, const LabelArray& indices, const GatherImagesParams& params);

struct GatherImagesShape {
  int64_t c, h, w;
};

// Images n0 to n1 - 1 of the batch, on the calling thread; x, indices and y are those of image 0. Indices of null: the
// batch is the first images of x. The key in the params is not read: it is where `key` points. Checks nothing,
// allocates nothing.
template <typename T>
using GatherImagesBlock = void (*)(const GatherImagesShape&, const GatherImagesParams&, const RandomKey* key,
                                   const T* x, const int64_t* indices, int64_t n0, int64_t n1, float* y);

struct GatherImagesKernels {
  GatherImagesBlock<uint8_t> from_uint8;
  GatherImagesBlock<float> from_float;
};
}  // namespace convcore

// The two matrix products that everything with weights is made of: convolution (all three passes) and dense layers.
//
//   taps product     out[p][k] = epilogue(sum over taps t, channels c of in[pixel p shifted by t][c] * w[k][t][c])
//                    Forward and backward-data of convolution: a pixel's row of the (never stored) im2col matrix is
//                    read straight from the image. A dense layer is the case of one tap on images of one pixel.
//   pixels product   part[k][t][c] = sum over pixels p of dy[p][k] * in[pixel p shifted by t][c]
//                    The gradient of the weights. Pixels are split over blocks; the parts are summed afterwards, in
//                    order.
//
// Images are channels-last, so a pixel's channels are contiguous, and a tap is one shift of the pixel.
//
// Both keep tiles of their operands in two stages of shared memory, filled by cp.async one stage ahead. What multiplies
// the tiles is one of four (Precision): FFMA on 8x8 outputs per thread, or tensor cores with operands rounded to TF32,
// to BF16, or split into two TF32 numbers each, whose three large products give almost the accuracy of float32.
//
// Bytes: every element of a tile is read once per tile of the other operand (from L2, mostly: taps overlap);
// operations: 2 * pixels * c_out * taps * c_in.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kMaxTaps = 128;  // 11 x 11 filters and a few more

// The shift of each tap.
struct Taps {
  int count;
  int16_t h[kMaxTaps], w[kMaxTaps];
};

// Pixel (i, j) of the product, 0 <= i < rows, 0 <= j < columns, meets the pixels
// (i * step_h + taps.h[t], j * step_w + taps.w[t]) of an image (h, w, c); those outside of it are zero.
struct TapImages {
  const float* data;  // (images, h, w, c)
  int h, w, c, step_h, step_w;
};

struct PixelGrid {
  int64_t pixels;  // images * rows * columns
  int rows, columns;
};

struct TapsProduct {
  TapImages in;
  PixelGrid grid;
  Taps taps;
  const float* w;  // (c_out, taps, in.c)
  int c_out;
  // Pixel (i, j) of image n goes to out[n][h0 + i * step_h][w0 + j * step_w], an image (h, w, c_out).
  float* out;
  int out_h, out_w, out_h0, out_w0, out_step_h, out_step_w;
  const float* bias;  // (c_out) or null
  const float* add;   // like out, or null
  bool relu;
};

struct PixelsProduct {
  TapImages in;
  PixelGrid grid;
  Taps taps;
  const float* dy;  // (pixels, c_out)
  int c_out;
  int64_t pixels_per_split;
  float* parts;  // (splits, c_out, taps, in.c)
};

// Launches the product; `name` is for the errors.
void taps_product(const char* name, const TapsProduct& product);

// dw[k][c][t] (or, with `taps_first`, dw[k][t][c]) = the pixels product: parts and pixels_per_split are chosen here.
void pixels_product(const char* name, PixelsProduct product, bool taps_first, float* dw);

}  // namespace convcore::cuda

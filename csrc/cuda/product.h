// The two matrix products that everything with weights is made of: convolution (all three passes) and dense layers.
//
//   taps product     out[p][k] = epilogue(sum over taps t, channels c of in[pixel p shifted by t][c] * w[k][t][c])
//                    Forward and backward-data of convolution. A dense layer is the case of one tap on images of one
//                    pixel.
//   pixels product   part[k][t][c] = sum over pixels p of dy[p][k] * in[pixel p shifted by t][c]
//                    The gradient of the weights. Pixels are split over blocks; the parts are summed afterwards, in
//                    order.
//
// Images are channels-last. A block works on a box of pixels: it copies the patch of `in` that all taps of the box need
// to shared memory, some channels at a time, once; a tap is then an offset into the patch. The copies run by cp.async
// one stage ahead. What an operand needs on the way (operand.cuh: a batch norm, say) is done to the patch in place, by
// the thread that copied, once per element of the patch and not once per tap; what lies outside of the image stays
// zero.
//
// What multiplies is one of four (Precision): FFMA on 4x8 (8x9) outputs per thread, or tensor cores with operands
// rounded to TF32, to BF16, or split into two TF32 numbers each, whose three large products give almost the accuracy of
// float32.
//
// Bytes: `in` once per tile of output channels, and the edges of its patches twice; the filters once per box.
// Operations: 2 * pixels * c_out * taps * c_in.
#pragma once
#include "cuda/batch_norm.cuh"
#include "cuda/operand.cuh"

namespace convcore::cuda {

constexpr int kMaxTaps = 128;        // 11 x 11 filters and a few more
constexpr int kMaxPhases = 16;       // a stride of 4 x 4
constexpr int kMaxSpanPixels = 280;  // of the patch that the taps of one pixel need: shared memory has room for them

// The shift of each tap, and which of the filter's taps it is.
struct Taps {
  int count;
  int16_t h[kMaxTaps], w[kMaxTaps], index[kMaxTaps];
};

// Some pixels of a product: images, rows and columns of a box of them, and of the patch around it.
struct Boxes {
  int images, rows, columns;  // of one box
  int down, across;           // boxes that cover an image
  int patch_rows, patch_columns;
};

// The pixels of a product that see the same taps: pixel (i, j), 0 <= i < rows, 0 <= j < columns, meets the pixels
// (i * step_h + taps.h[t], j * step_w + taps.w[t]) of `in`.
struct Phase {
  int rows, columns;
  int first_tap, taps;
  int low_h, low_w, high_h, high_w;  // least and greatest shift
  int out_h0, out_w0;                // it goes to out[n][out_h0 + i * out_step_h][out_w0 + j * out_step_w]
  Boxes boxes;                       // set by the product
  int first_box;
};

enum class SumsKind { none, statistics, gradient };

// What becomes of a result before it is stored, and what is summed of it.
struct Epilogue {
  const float* bias;  // (c_out) or null
  Shortcut add;       // as a gradient
  bool masked;        // zero where y > 0 does not hold; y null: y = affine(x)
  const float *y, *x;
  BatchNormAffine affine;
  SumsKind sums;
  // Sums of out - pivot and its squares; or of out and out * (x - mean).
  BatchNormFinish statistics;
  BatchNormBackwardFinish gradient;
  float* parts;  // (boxes, channel_pairs(c_out), 4): set by the product
  unsigned* arrivals;
};

struct TapsProduct {
  Operand in;
  int step_h, step_w, images;
  Taps taps;
  int phases;
  Phase phase[kMaxPhases];
  const float* w;  // (c_out, filter_taps, in.c)
  int filter_taps, c_out;
  float* out;  // (images, out_h, out_w, c_out)
  int out_h, out_w, out_step_h, out_step_w;
  Epilogue epilogue;
  // Set by the product.
  int channels, stage_taps, pitch;  // of a stage; floats from a pixel of the patch to the next
  int boxes, column_tiles, patch_floats;
  bool out_fours;
};

struct PixelsProduct {
  Operand in, dy;
  int step_h, step_w, images;
  Taps taps;
  Phase phase;
  // Set by the product.
  int channels, pitch, tile_taps, tap_tiles, column_tiles, row_tiles, boxes, boxes_per_split, patch_floats;
  int regular_row;  // more than 0: a 3x3 filter whose rows are so many pixels of the patch apart; see the kernel
  float* parts;     // (splits, c_out, taps, in.c)
};

Operand plain_operand(const float* data, int64_t h, int64_t w, int64_t c);

// Launches the product; `name` is for the errors.
void taps_product(const char* name, const TapsProduct& product);

// dw[k][c][t] (or, with `taps_first`, dw[k][t][c]) = the pixels product.
void pixels_product(const char* name, const PixelsProduct& product, bool taps_first, float* dw);

// The parts alone, (splits, c_out, taps, c_in); with the taps product of another pass in the same kernel, unless that
// is null. Neither reads what the other writes. `widest`: the most output channels of the two.
void pixels_product_parts(const char* name, const PixelsProduct& pixels, int widest, const TapsProduct* taps,
                          float* parts);
int64_t pixels_product_splits(const PixelsProduct& pixels, int widest);
void sum_parts(const char* name, int64_t splits, int64_t c_out, int taps, int c, bool taps_first, const float* parts,
               float* dw);

}  // namespace convcore::cuda

// conv2d_relu_max_pool2d of a whole batch, channels-last (ops/conv_pool.h), in two ways.
//
// Small convolutions (LeNet's: few channels and terms) cost less than the launches of their kernels. For them:
//
//   forward          a thread makes four neighbouring channels of one pooled pixel: the 2x2 results of the convolution
//                    under it in 16 registers, then their maximum, and one byte of mask: which of the four won, 4:
//                    none, because it was not positive
//   backward input   the same 2x2 pixels by four channels of dx: a convolution with the filters turned, of the gradient
//                    that is made from dy and the mask as it is loaded
//   backward weight  the sum over the winners only. A thread has one tap of one input channel for 16 output channels,
//                    and every `slices`-th pooled pixel of some of the images; the slices, and then the parts of the
//                    images, are added up in order.
//
//   Grid: x over tiles of an image (backward weight: parts of the images), y over 16 output channels, z over taps.
//   Block: as many threads as a tile has items. Shared memory: the tile's patch of the input, plane by plane, and the
//   filters (taps, 16). Per two taps of a filter's row a thread reads 4 x 8 bytes of the patch and 2 x 16 bytes of
//   weights, the latter the same in the whole warp, for 32 multiply-adds. Bytes: x (h_in w_in c_in floats) and y (a
//   quarter of the convolution's result) once, a byte of mask per output; the convolution's result, eight times y, is
//   never in memory.
//
// The others: conv2d's kernels with their result in the workspace, then ReLU, pooling and mask in one pass; backward
// one pass that spreads dy out by the mask, and conv2d's kernels.
#include "ops/conv_pool.h"

#include "cuda/images.cuh"
#include "cuda/parts.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kNoWinner = 4;

// ---- small convolutions ---------------------------------------------------------------------------------------------

constexpr int kChannels = 16, kGroup = 4;  // output channels of a block, of a thread
constexpr int kMostThreads = 256;          // of a tile
constexpr int kGradientThreads = 512;
constexpr int64_t kMostTerms = 288;  // c_in * taps of what is small
constexpr int64_t kMostSharedBytes = 48 * 1024;
constexpr int64_t kMostParts = 256;  // of the images, in backward weight

int rounded(int64_t value, int64_t to) { return int((value + to - 1) / to * to); }

// A convolution with stride 1 as the kernels see it, forward or backward to the input: c_in channels of (h_in, w_in) to
// c_out of (h_out, w_out), in squares of 2x2.
struct Squares {
  int c_in, c_out, kh, kw, pad_top, pad_left;
  int h_in, w_in, h_out, w_out;  // backward: h_in, w_in are those of the convolution's result
  int h_pool, w_pool;            // of dy, y and mask
  int rows, columns;             // squares of a tile
  int tiles_h, tiles_w;          // of an image
  int groups;                    // of four channels, in a block
  int stage;                     // input channels at a time
  int patch_h, patch_w, pitch;   // of a plane in shared memory
  int weight_pitch() const { return groups * kGroup; }
  int64_t patch_floats() const { return int64_t(stage) * patch_h * pitch; }
  int64_t weight_floats() const { return int64_t(stage) * kh * kw * weight_pitch(); }
  int64_t bytes() const { return int64_t(sizeof(float)) * (patch_floats() + weight_floats()); }
  int threads() const { return rounded(rows * columns * groups, kWarp); }
};

// Tiles of as many squares as there are threads for, split evenly; as many input channels at a time as fit.
Squares tiled(Squares d) {
  const int squares_h = (d.h_out + 1) / 2, squares_w = (d.w_out + 1) / 2;
  d.groups = (d.c_out < kChannels ? d.c_out + kGroup - 1 : kChannels) / kGroup;
  const int most = kMostThreads / d.groups;
  const auto even = [](int count, int largest) {
    const int pieces = (count + largest - 1) / largest;
    return (count + pieces - 1) / pieces;
  };
  d.columns = even(squares_w, squares_w < most ? squares_w : most);
  d.rows = even(squares_h, most / d.columns < squares_h ? most / d.columns : squares_h);
  d.tiles_h = (squares_h + d.rows - 1) / d.rows, d.tiles_w = (squares_w + d.columns - 1) / d.columns;
  d.patch_h = 2 * d.rows + d.kh - 1, d.patch_w = 2 * d.columns + d.kw - 1;
  d.pitch = rounded(d.patch_w + 2, 2);  // pairs are read two pixels beyond the last that counts
  for (d.stage = d.c_in; d.stage > 1 && d.bytes() > kMostSharedBytes;) d.stage = (d.stage + 1) / 2;
  return d;
}

Squares forward_squares(const ConvPoolShape& s) {
  Squares d{};
  d.c_in = int(s.c_in), d.c_out = int(s.c_out), d.kh = int(s.kh), d.kw = int(s.kw);
  d.pad_top = int(s.pad_top), d.pad_left = int(s.pad_left), d.h_in = int(s.h_in), d.w_in = int(s.w_in);
  d.h_pool = int(s.h_out), d.w_pool = int(s.w_out);
  d.h_out = 2 * d.h_pool, d.w_out = 2 * d.w_pool;  // an odd last row or column is not needed
  return tiled(d);
}
Squares backward_squares(const ConvPoolShape& s) {
  Squares d = forward_squares(s);
  d.c_in = int(s.c_out), d.c_out = int(s.c_in);
  d.pad_top = d.kh - 1 - d.pad_top, d.pad_left = d.kw - 1 - d.pad_left;
  d.h_in = int(s.h_conv), d.w_in = int(s.w_conv), d.h_out = int(s.h_in), d.w_out = int(s.w_in);
  return tiled(d);
}

// Element (image, h, w, c) of what is convolved, 0 outside.
struct FromImages {
  const float* x;
  __device__ float at(const Squares& d, int64_t image, int h, int w, int c) const {
    if (unsigned(h) >= unsigned(d.h_in) || unsigned(w) >= unsigned(d.w_in)) return 0;
    return x[((image * d.h_in + h) * d.w_in + w) * d.c_in + c];
  }
  // The weight of tap `tap` from input channel `in` to output channel `out`.
  __device__ static int64_t weight(const Squares& d, int in, int out, int tap) {
    return (int64_t(out) * d.c_in + in) * (d.kh * d.kw) + tap;
  }
};
struct FromGradient {
  const float* dy;
  const uint8_t* mask;
  __device__ float at(const Squares& d, int64_t image, int h, int w, int c) const {
    if (unsigned(h) >= unsigned(2 * d.h_pool) || unsigned(w) >= unsigned(2 * d.w_pool)) return 0;
    const int64_t from = ((image * d.h_pool + h / 2) * d.w_pool + w / 2) * d.c_in + c;
    return mask[from] == 2 * (h % 2) + w % 2 ? dy[from] : 0.0f;
  }
  __device__ static int64_t weight(const Squares& d, int in, int out, int tap) {
    return (int64_t(in) * d.c_out + out) * (d.kh * d.kw) + (d.kh * d.kw - 1 - tap);
  }
};

// Of a thread: results [square's row][square's column][channel].
struct SquareSums {
  float at[2][2][kGroup];
  __device__ void add(float4 w, float upper_left, float upper_right, float lower_left, float lower_right) {
    add_to(at[0][0], w, upper_left);
    add_to(at[0][1], w, upper_right);
    add_to(at[1][0], w, lower_left);
    add_to(at[1][1], w, lower_right);
  }
  __device__ static void add_to(float* sums, float4 w, float x) {
    sums[0] = fmaf(w.x, x, sums[0]);
    sums[1] = fmaf(w.y, x, sums[1]);
    sums[2] = fmaf(w.z, x, sums[2]);
    sums[3] = fmaf(w.w, x, sums[3]);
  }
};

// One plane of the patch times its filters; `patch` is at the square's first pixel, `weights` at the thread's channels.
CONVCORE_DEVICE void add_plane(const Squares& d, const float* patch, const float* weights, int weight_pitch,
                               SquareSums* sums) {
  for (int r = 0; r < d.kh; r++, patch += d.pitch) {
    float2 upper = shared_load2(patch), lower = shared_load2(patch + d.pitch);
    for (int s = 0; s < d.kw; s += 2) {
      const float2 next_upper = shared_load2(patch + s + 2), next_lower = shared_load2(patch + d.pitch + s + 2);
      sums->add(shared_load4(weights), upper.x, upper.y, lower.x, lower.y);
      weights += weight_pitch;
      if (s + 1 < d.kw) {
        sums->add(shared_load4(weights), upper.y, next_upper.x, lower.y, next_lower.x);
        weights += weight_pitch;
      }
      upper = next_upper, lower = next_lower;
    }
  }
}

// y and mask of one pooled pixel.
CONVCORE_DEVICE void store_pooled(const Squares& d, const SquareSums& sums, int64_t image, int row, int column, int k0,
                                  float* y, uint8_t* mask) {
  const int64_t at = ((image * d.h_pool + row) * d.w_pool + column) * d.c_out;
  CONVCORE_UNROLL
  for (int k = 0; k < kGroup; k++) {
    if (k0 + k >= d.c_out) continue;
    float best = sums.at[0][0][k];
    int winner = 0;
    CONVCORE_UNROLL
    for (int place = 1; place < 4; place++) {
      const float value = sums.at[place / 2][place % 2][k];
      if (value > best || value != value) best = value, winner = place;
    }
    const bool none = best <= 0;
    y[at + k0 + k] = none ? 0.0f : best;
    if (mask) mask[at + k0 + k] = uint8_t(none ? kNoWinner : winner);
  }
}

CONVCORE_DEVICE void store_square(const Squares& d, const SquareSums& sums, int64_t image, int row, int column, int k0,
                                  float* dx) {
  CONVCORE_UNROLL
  for (int place = 0; place < 4; place++) {
    const int h = 2 * row + place / 2, w = 2 * column + place % 2;
    if (h >= d.h_out || w >= d.w_out) continue;
    CONVCORE_UNROLL
    for (int k = 0; k < kGroup; k++)
      if (k0 + k < d.c_out)
        dx[((image * d.h_out + h) * d.w_out + w) * d.c_out + k0 + k] = sums.at[place / 2][place % 2][k];
  }
}

template <bool kPool, typename From>
CONVCORE_KERNEL(kMostThreads)
convolve_squares(Squares d, From from, const float* w, const float* b, float* out, uint8_t* mask) {
  SharedMemory shared;
  const int weight_pitch = d.groups * kGroup, taps = d.kh * d.kw;
  float* patch = shared.array<float>(d.stage * d.patch_h * d.pitch);
  float* weights = shared.array<float>(d.stage * taps * weight_pitch);
  const int tile = int(blockIdx.x % unsigned(d.tiles_h * d.tiles_w));
  const int64_t image = blockIdx.x / unsigned(d.tiles_h * d.tiles_w);
  const int row0 = tile / d.tiles_w * d.rows, column0 = tile % d.tiles_w * d.columns;
  const int first_channel = int(blockIdx.y) * kChannels;
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  const int group = thread / (d.rows * d.columns), square = thread % (d.rows * d.columns);
  const int row = square / d.columns, column = square % d.columns, k0 = first_channel + group * kGroup;

  SquareSums sums;
  CONVCORE_UNROLL
  for (int k = 0; k < kGroup; k++) {
    const float bias = b && k0 + k < d.c_out ? b[k0 + k] : 0.0f;
    sums.at[0][0][k] = sums.at[0][1][k] = sums.at[1][0][k] = sums.at[1][1][k] = bias;
  }
  for (int c0 = 0; c0 < d.c_in; c0 += d.stage) {
    const int channels = d.c_in - c0 < d.stage ? d.c_in - c0 : d.stage;
    if (c0 > 0) __syncthreads();  // before the last stage is overwritten
    for (int i = thread; i < channels * d.patch_h * d.patch_w; i += threads) {
      const int c = i % channels, v = i / channels % d.patch_w, h = i / channels / d.patch_w;
      patch[(c * d.patch_h + h) * d.pitch + v] =
          from.at(d, image, 2 * row0 + h - d.pad_top, 2 * column0 + v - d.pad_left, c0 + c);
    }
    for (int i = thread; i < channels * taps * weight_pitch; i += threads) {
      const int k = i % weight_pitch, tap = i / weight_pitch % taps, c = i / weight_pitch / taps;
      weights[i] = first_channel + k < d.c_out ? w[From::weight(d, c0 + c, first_channel + k, tap)] : 0.0f;
    }
    __syncthreads();
    if (group >= d.groups) continue;
    for (int c = 0; c < channels; c++)
      add_plane(d, patch + (c * d.patch_h + 2 * row) * d.pitch + 2 * column,
                weights + c * taps * weight_pitch + group * kGroup, weight_pitch, &sums);
  }
  if (group >= d.groups || 2 * (row0 + row) >= d.h_out || 2 * (column0 + column) >= d.w_out) return;
  if constexpr (kPool)
    store_pooled(d, sums, image, row0 + row, column0 + column, k0, out, mask);
  else
    store_square(d, sums, image, row0 + row, column0 + column, k0, out);
}

template <bool kPool, typename From>
void launch_squares(const char* name, const Squares& d, int64_t n, From from, const float* w, const float* b,
                    float* out, uint8_t* mask) {
  const int64_t blocks = n * d.tiles_h * d.tiles_w;
  if (blocks == 0 || d.c_out == 0) return;
  launch(name, convolve_squares<kPool, From>, dim3(unsigned(blocks), blocks_for(d.c_out, kChannels)), d.threads(),
         shared_bytes<float>(d.patch_floats()) + shared_bytes<float>(d.weight_floats()), d, from, w, b, out, mask);
}

// ---- the gradient of the weights of small convolutions -------------------------------------------------------------

struct Gradient {
  int64_t n, parts;
  int c_in, c_out, kh, kw, pad_top, pad_left, h_in, w_in, h_pool, w_pool;
  int terms;                    // c_in * taps, and one more: the bias
  int lanes, slices;            // threads: terms of a block, times the slices of the pixels
  int rows;                     // of pooled pixels at a time
  int patch_h, patch_w, pitch;  // of a plane in shared memory
  int64_t patch_floats() const { return int64_t(c_in) * patch_h * pitch; }
  int64_t winners() const { return int64_t(rows) * w_pool * kChannels; }
  int64_t bytes() const { return 4 * patch_floats() + 8 * winners() + 4 * lanes * slices; }
};

Gradient gradient_of(const ConvPoolShape& s) {
  Gradient d{};
  d.n = s.n, d.parts = s.n < kMostParts ? (s.n > 0 ? s.n : 1) : kMostParts;
  d.c_in = int(s.c_in), d.c_out = int(s.c_out), d.kh = int(s.kh), d.kw = int(s.kw);
  d.pad_top = int(s.pad_top), d.pad_left = int(s.pad_left), d.h_in = int(s.h_in), d.w_in = int(s.w_in);
  d.h_pool = int(s.h_out), d.w_pool = int(s.w_out);
  d.terms = d.c_in * d.kh * d.kw + 1;
  d.lanes = rounded(d.terms, kWarp) < kGradientThreads ? rounded(d.terms, kWarp) : kGradientThreads;
  d.slices = kGradientThreads / d.lanes;
  d.patch_w = 2 * d.w_pool + d.kw - 1;
  // Neighbouring rows of a filter start in different banks.
  for (d.pitch = d.patch_w; d.pitch % 32 < d.kw % 32 || d.pitch % 32 > 32 - d.kw % 32;) d.pitch++;
  for (d.rows = d.h_pool;; d.rows = (d.rows + 1) / 2) {
    d.patch_h = 2 * d.rows + d.kh - 1;
    if (d.rows <= 1 || d.bytes() <= kMostSharedBytes) return d;
  }
}

struct Winner {
  float value;
  int offset;  // of its pixel in a plane of the patch; -1: none
};

// The patch and the winners of rows row0, ... of an image.
CONVCORE_DEVICE void load_rows(const Gradient& d, int64_t image, int row0, int rows, int first_channel, const float* dy,
                               const uint8_t* mask, const float* x, float* patch, Winner* winners) {
  for (int i = int(threadIdx.x); i < d.c_in * (2 * rows + d.kh - 1) * d.patch_w; i += int(blockDim.x)) {
    const int c = i % d.c_in, v = i / d.c_in % d.patch_w, r = i / d.c_in / d.patch_w;
    const int h = 2 * row0 + r - d.pad_top, w = v - d.pad_left;
    const bool inside = unsigned(h) < unsigned(d.h_in) && unsigned(w) < unsigned(d.w_in);
    patch[(c * d.patch_h + r) * d.pitch + v] = inside ? x[((image * d.h_in + h) * d.w_in + w) * d.c_in + c] : 0.0f;
  }
  for (int i = int(threadIdx.x); i < rows * d.w_pool * kChannels; i += int(blockDim.x)) {
    const int k = first_channel + i % kChannels, pixel = i / kChannels, row = pixel / d.w_pool;
    Winner winner{0, -1};
    if (k < d.c_out) {
      const int64_t from = ((image * d.h_pool + row0 + row) * d.w_pool + pixel % d.w_pool) * d.c_out + k;
      const int place = mask[from];
      if (place != kNoWinner) winner = {dy[from], (2 * row + place / 2) * d.pitch + 2 * (pixel % d.w_pool) + place % 2};
    }
    winners[i] = winner;
  }
}

// parts (parts, c_out, terms)
CONVCORE_KERNEL(kGradientThreads)
sum_winners(Gradient d, const float* dy, const uint8_t* mask, const float* x, float* parts) {
  SharedMemory shared;
  float* patch = shared.array<float>(d.c_in * d.patch_h * d.pitch);
  Winner* winners = shared.array<Winner>(d.rows * d.w_pool * kChannels);
  float* sums = shared.array<float>(d.lanes * d.slices);
  const int thread = int(threadIdx.x), slice = thread / d.lanes, first_channel = int(blockIdx.y) * kChannels;
  const int term = int(blockIdx.z) * d.lanes + thread % d.lanes, taps = d.kh * d.kw;
  const bool of_weight = term < d.terms - 1, of_bias = term == d.terms - 1;
  const int c = of_weight ? term / taps : 0, tap = of_weight ? term % taps : 0;
  const float* pixel0 = patch + (c * d.patch_h + tap / d.kw) * d.pitch + tap % d.kw;

  float totals[kChannels] = {};
  const int64_t end = d.n * (int64_t(blockIdx.x) + 1) / d.parts;
  for (int64_t image = d.n * blockIdx.x / d.parts; image < end; image++)
    for (int row0 = 0; row0 < d.h_pool; row0 += d.rows) {
      const int rows = d.h_pool - row0 < d.rows ? d.h_pool - row0 : d.rows;
      __syncthreads();  // before the last rows are overwritten
      load_rows(d, image, row0, rows, first_channel, dy, mask, x, patch, winners);
      __syncthreads();
      float some[kChannels] = {};
      for (int pixel = slice; pixel < rows * d.w_pool; pixel += d.slices) CONVCORE_UNROLL
      for (int k = 0; k < kChannels; k++) {
        const Winner winner = winners[pixel * kChannels + k];
        if (winner.offset >= 0) some[k] = fmaf(winner.value, of_bias ? 1.0f : pixel0[winner.offset], some[k]);
      }
      CONVCORE_UNROLL
      for (int k = 0; k < kChannels; k++) totals[k] += some[k];
    }
  CONVCORE_UNROLL
  for (int k = 0; k < kChannels; k++) {
    __syncthreads();
    sums[thread] = totals[k];
    __syncthreads();
    if (slice > 0 || first_channel + k >= d.c_out || term >= d.terms) continue;
    float sum = totals[k];
    for (int s = 1; s < d.slices; s++) sum += sums[s * d.lanes + thread];
    parts[(blockIdx.x * int64_t(d.c_out) + first_channel + k) * d.terms + term] = sum;
  }
}

struct StoreGradients {  // of the sums (c_out, terms)
  int terms;
  float *dw, *db;
  __device__ void operator()(int64_t at, float sum) const {
    const int64_t channel = at / terms, term = at % terms;
    if (term < terms - 1 && dw) dw[channel * (terms - 1) + term] = sum;
    if (term == terms - 1 && db) db[channel] = sum;
  }
};

int64_t part_floats(const Gradient& d) { return d.parts * d.c_out * d.terms; }

void small_backward_weight(const ConvPoolShape& s, const float* dy, const uint8_t* mask, const float* x, float* dw,
                           float* db, float* parts) {
  const Gradient d = gradient_of(s);
  if (d.c_out == 0) return;
  launch("conv_pool backward weight", sum_winners,
         dim3(unsigned(d.parts), blocks_for(d.c_out, kChannels), blocks_for(d.terms, d.lanes)), d.lanes * d.slices,
         shared_bytes<float>(d.patch_floats()) + shared_bytes<Winner>(d.winners()) +
             shared_bytes<float>(d.lanes * d.slices),
         d, dy, mask, x, parts);
  add_parts("conv_pool backward weight", d.parts, int64_t(d.c_out) * d.terms, parts, StoreGradients{d.terms, dw, db});
}

bool is_small(const ConvPoolShape& s) {
  const int64_t terms = s.c_in * s.kh * s.kw;
  if (terms > kMostTerms || s.c_out > 2 * kChannels || s.h_in > 1 << 13 || s.w_in > 1 << 13) return false;
  if (s.h_in == 0 || s.w_in == 0 || s.h_out == 0 || s.w_out == 0) return false;
  if (s.n * s.h_in * s.w_in >= int64_t(1) << 30 || s.n * s.h_conv * s.w_conv >= int64_t(1) << 30) return false;
  return forward_squares(s).bytes() <= kMostSharedBytes && backward_squares(s).bytes() <= kMostSharedBytes &&
         gradient_of(s).bytes() <= kMostSharedBytes;
}

// ---- the others -----------------------------------------------------------------------------------------------------

Conv2dShape conv_of(const ConvPoolShape& s) {
  const WindowAxis h{s.kh, 1, s.pad_top, s.pad_bottom}, w{s.kw, 1, s.pad_left, s.pad_right};
  return {s.n, s.c_in, s.h_in, s.w_in, s.c_out, s.h_conv, s.w_conv, 1, {h, w}};
}

struct Pool {  // z (n, h_conv, w_conv, c) to y and mask
  int64_t h_conv, w_conv, c;
  const float* z;
  float* y;
  uint8_t* mask;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* square = z + ((p.n * h_conv + 2 * p.h) * w_conv + 2 * p.w) * c + p.c;
    auto best = load_lanes<kLanes>(square);
    auto winner = all_lanes<kLanes>(uint8_t(0));
    for (int place = 1; place < 4; place++) {
      const auto v = load_lanes<kLanes>(square + (place / 2 * w_conv + place % 2) * c);
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++)
        if (v.at[l] > best.at[l] || v.at[l] != v.at[l]) best.at[l] = v.at[l], winner.at[l] = uint8_t(place);
    }
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++)
      if (best.at[l] <= 0) best.at[l] = 0, winner.at[l] = uint8_t(kNoWinner);
    store_lanes(y + p.offset, best);
    if (mask) store_lanes(mask + p.offset, winner);
  }
};

struct Spread {  // dz: dy where it won, else 0
  int64_t h_pool, w_pool, c;
  const float* dy;
  const uint8_t* mask;
  float* dz;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto value = all_lanes<kLanes>(0.0f);
    if (p.h / 2 < h_pool && p.w / 2 < w_pool) {
      const int64_t from = ((p.n * h_pool + p.h / 2) * w_pool + p.w / 2) * c + p.c;
      const auto gradient = load_lanes<kLanes>(dy + from);
      const auto winner = load_lanes<kLanes>(mask + from);
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++)
        if (winner.at[l] == 2 * (p.h % 2) + p.w % 2) value.at[l] = gradient.at[l];
    }
    store_lanes(dz + p.offset, value);
  }
};

// ---- the table ------------------------------------------------------------------------------------------------------

int64_t mask_bytes(const ConvPoolShape& s) { return s.n * s.h_out * s.w_out * s.c_out; }

int64_t workspace_floats(const ConvPoolShape& s) {
  return is_small(s) ? part_floats(gradient_of(s)) : s.n * s.h_conv * s.w_conv * s.c_out;
}

void forward(const ConvPoolShape& s, const float* x, const float* w, const float* b, float* y, void* mask,
             float* workspace) {
  auto* winners = static_cast<uint8_t*>(mask);
  if (is_small(s)) return launch_squares<true>("conv_pool", forward_squares(s), s.n, FromImages{x}, w, b, y, winners);
  conv2d_kernels().direct_forward(conv_of(s), x, Layout::channels_last, w, b, workspace);
  for_pixels("conv_pool", {s.n, s.h_out, s.w_out, s.c_out}, aligned16(workspace, y, winners),
             Pool{s.h_conv, s.w_conv, s.c_out, workspace, y, winners});
}

void backward(const ConvPoolShape& s, const float* dy, const void* mask, const float* x, const float* w, float* dx,
              float* dw, float* db, float* workspace) {
  const auto* winners = static_cast<const uint8_t*>(mask);
  if (is_small(s)) {
    if (dx)
      launch_squares<false>("conv_pool backward input", backward_squares(s), s.n, FromGradient{dy, winners}, w, nullptr,
                            dx, nullptr);
    if (dw || db) small_backward_weight(s, dy, winners, x, dw, db, workspace);
    return;
  }
  for_pixels("conv_pool backward", {s.n, s.h_conv, s.w_conv, s.c_out}, aligned16(dy, winners, workspace),
             Spread{s.h_out, s.w_out, s.c_out, dy, winners, workspace});
  const Conv2dKernels conv = conv2d_kernels();
  const Conv2dShape shape = conv_of(s);
  if (dx) conv.direct_backward_input(shape, workspace, Layout::channels_last, w, dx);
  if (dw) conv.direct_backward_weight(shape, workspace, x, dw);
  if (db) conv.backward_bias(shape, workspace, Layout::channels_last, db);
}

}  // namespace

ConvPoolKernels conv_pool_kernels() {
  ConvPoolKernels kernels{};
  kernels.batch_mask_bytes = mask_bytes;
  kernels.batch_workspace_floats = workspace_floats;
  kernels.batch_forward = forward;
  kernels.batch_backward = backward;
  return kernels;
}

}  // namespace convcore::cuda

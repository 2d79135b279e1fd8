// Convolution + ReLU + 2x2 max pooling for few output channels, or one input channel, on row-major images.
//
// Lanes are kLanes neighbouring pooled pixels of a row. The input is spread once per image: for each row and each of
// the kw + 1 columns that a pooling window sees, one vector with every second pixel,
//
//   spread(c, row, q)[lane j] = padded x[c][row][2 * (first pixel + j) + q],     0 <= q <= kw
//
// so that all loads are aligned, the left result of a window is the sum over q = s, the right one over q = s + 1, and
// the four results of a window lie in the same lane of four registers: pooling needs no shuffle. One broadcast weight
// serves four FMAs; 6 filters x 4 sums + 4 inputs + 1 weight = 29 registers (2 x 4 + 5 = 13 of 16).
//
// Gradient of the weights: lane by lane, the pixel in the winner's column is selected, and the gradient is split into
// one for windows that the upper row won and one for the others. A selection and two FMAs per tap do what four FMAs
// would do on the separate operations, and all 25 taps of a 5x5 filter are summed in one pass.
#include "cpu/conv2d/pooled.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kFilters = kRegisters >= 32 ? 6 : 2;
// Taps of the weight gradient that are summed in registers: 25 sums, two gradients, two inputs and the selected one are
// 30, masks have registers of their own; 15 + 8 of 32 without those, 6 + 8 of 16.
constexpr int kTapRows = kRegisters >= 32 ? 5 : 3;
constexpr int kTapColumns = kLanes == 16 ? 5 : kRegisters >= 32 ? 3 : 2;

int64_t taps(const ConvPoolShape& s) { return s.c_in * s.kh * s.kw; }
int64_t blocks(const ConvPoolShape& s) { return ceil_div(s.w_out, kLanes); }
int64_t spread_pitch(const ConvPoolShape& s) { return (s.kw + 1) * kLanes; }
int64_t spread_floats(const ConvPoolShape& s) { return s.c_in * seen_rows(s) * spread_pitch(s); }
int64_t pixels_in(const ConvPoolShape& s, int64_t block) { return min_of<int64_t>(kLanes, s.w_out - block * kLanes); }

// ---- pixels and vectors --------------------------------------------------------------------------------------------

// kLanes pixels of c channels are c vectors in either order, (channel, pixel) or (pixel, channel). Each vector of one
// order is put together from those of the other, two at a time; of many channels, the matrix is transposed.
struct Interleaving {
  int32_t* lanes;  // (vector of the result, pair of vectors, lane): the lane of the pair
  int32_t* masks;  // (vector of the result, pair of vectors): bits of the lanes that come from the pair
  static int64_t floats(int64_t c) { return c * pairs(c) * (kLanes + 1); }
  static int64_t pairs(int64_t c) { return (c + 1) / 2; }
  static constexpr int kMostPairs = kConvPoolFewChannels / 2;

  Interleaving(int64_t c, float* memory)
      : lanes(reinterpret_cast<int32_t*>(memory)), masks(lanes ? lanes + c * pairs(c) * kLanes : nullptr) {}

  // Lane `l` of vector `v` of the result is lane `from % kLanes` of vector `from / kLanes`.
  void set(int64_t c, int64_t v, int64_t l, int64_t from) const {
    const int64_t pair = from / (2 * kLanes);
    lanes[(v * pairs(c) + pair) * kLanes + l] = int32_t(from % (2 * kLanes));
    masks[v * pairs(c) + pair] |= 1 << l;
  }

  // Reads an even number of vectors and writes the first `count` floats of the result.
  void apply(int64_t c, const float* from, int64_t count, float* to) const {
    with_count<kMostPairs>(pairs(c), [&](auto pair_count) {
      const int32_t *entry_lanes = lanes, *entry_mask = masks;
      for (int64_t v = 0; v < count; v += kLanes) {
        Vec result = __builtin_shuffle(load(from), load(from + kLanes), load_int(entry_lanes));
#pragma GCC unroll 8
        for (int p = 1; p < pair_count.value; p++) {
          const Vec part = __builtin_shuffle(load(from + 2 * p * kLanes), load(from + (2 * p + 1) * kLanes),
                                             load_int(entry_lanes + p * kLanes));
          result = select(mask_of_bits(uint16_t(entry_mask[p])), part, result);
        }
        if (count - v >= kLanes)
          store(to + v, result);
        else
          store_partial(to + v, result, count - v);
        entry_lanes += pair_count.value * kLanes, entry_mask += pair_count.value;
      }
    });
  }
};

bool interleaves(const ConvPoolShape& s) { return s.c_out < kConvPoolFewChannels; }
int64_t interleaving_floats(const ConvPoolShape& s) { return interleaves(s) ? Interleaving::floats(s.c_out) : 0; }

// Fills the tables of both directions.
void fill(int64_t c, const Interleaving& to_pixels, const Interleaving& to_vectors) {
  memset(to_pixels.lanes, 0, size_t(Interleaving::floats(c)) * sizeof(float));
  memset(to_vectors.lanes, 0, size_t(Interleaving::floats(c)) * sizeof(float));
  for (int64_t channel = 0; channel < c; channel++)
    for (int64_t pixel = 0; pixel < kLanes; pixel++) {
      const int64_t in_pixels = pixel * c + channel, in_vectors = channel * kLanes + pixel;
      to_pixels.set(c, in_pixels / kLanes, in_pixels % kLanes, in_vectors);
      to_vectors.set(c, channel, pixel, in_pixels);
    }
}

CONVCORE_INLINE void copy_floats(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes)
    store(to + i, count - i >= kLanes ? load(from + i) : load_partial(from + i, count - i));
}

// ---- weights ------------------------------------------------------------------------------------------------------

// Forward: tiles of up to kFilters filters, (tap, filter) in each; the bias; for dx, the rows of each filter as whole
// vectors. The tables of channels-last y and dy lie beside them.
struct PackedPixels {
  int64_t* offsets;  // of the taps in the spread input
  float *forward, *bias, *backward, *to_pixels, *to_vectors;
  PackedPixels(const ConvPoolShape& s, float* packed) {
    Parts parts{packed, 0};
    offsets = reinterpret_cast<int64_t*>(parts.take(2 * taps(s)));
    forward = parts.take(s.c_out * taps(s));
    bias = parts.take(s.c_out);
    backward = parts.take(s.c_out * s.c_in * s.kh * whole_vectors(s.kw));
    to_pixels = parts.take(interleaving_floats(s));
    to_vectors = parts.take(interleaving_floats(s));
    floats = parts.used;
  }
  int64_t floats;
};

int64_t packed_floats(const ConvPoolShape& s) { return PackedPixels(s, nullptr).floats; }

void pack(const ConvPoolShape& s, const float* w, const float* b, float* packed) {
  const PackedPixels to(s, packed);
  for (int64_t t = 0; t < taps(s); t++)
    to.offsets[t] = (t / (s.kh * s.kw) * seen_rows(s) + t / s.kw % s.kh) * spread_pitch(s) + t % s.kw * kLanes;
  float* forward = to.forward;
  for (int64_t o0 = 0, filters; o0 < s.c_out; o0 += filters) {
    filters = next_tile(s.c_out - o0, kFilters);
    for (int64_t t = 0; t < taps(s); t++)
      for (int64_t o = 0; o < filters; o++) *forward++ = w[(o0 + o) * taps(s) + t];
  }
  for (int64_t o = 0; o < s.c_out; o++) to.bias[o] = b ? b[o] : 0;
  const int64_t width = whole_vectors(s.kw);
  for (int64_t row = 0; row < s.c_out * s.c_in * s.kh; row++)
    for (int64_t v = 0; v < width; v++) to.backward[row * width + v] = v < s.kw ? w[row * s.kw + v] : 0;
  if (interleaves(s)) fill(s.c_out, {s.c_out, to.to_pixels}, {s.c_out, to.to_vectors});
}

// ---- input --------------------------------------------------------------------------------------------------------

// kLanes pairs of neighbouring columns of a row, from column `at` on: which of them lie on the image, and their even
// and odd columns, zero outside.
struct PairsOnImage {
  int64_t at;
  LaneMask low, high;
  PairsOnImage(const ConvPoolShape& s, int64_t at_)
      : at(at_), low(lanes_between(-at_, s.w_in - at_)), high(lanes_between(-at_ - kLanes, s.w_in - at_ - kLanes)) {}
};
struct Pairs {
  Vec even, odd;
};
CONVCORE_INLINE Pairs load_pairs(const float* row, const PairsOnImage& where) {
  const Vec a = load_where(where.low, row + where.at), b = load_where(where.high, row + where.at + kLanes);
  return {__builtin_shuffle(a, b, 2 * lane_numbers()), __builtin_shuffle(a, b, 2 * lane_numbers() + 1)};
}

// All rows of one channel, for the columns q0 .. q0 + 2 * kLanes - 1 of the windows as far as there are so many.
CONVCORE_INLINE void spread_rows(const ConvPoolShape& s, const float* image, int64_t start, int64_t q0, float* to) {
  const int64_t pitch = spread_pitch(s), q_end = min_of(s.kw + 1, q0 + 2 * kLanes);
  const PairsOnImage first(s, start + q0), second(s, start + q0 + 2 * kLanes);
  const bool reaches = first.at + 2 * kLanes < s.w_in && q_end > q0 + 2;  // into the second vector
  for (int64_t row = 0; row < seen_rows(s); row++, to += pitch) {
    const int64_t h = row - s.pad_top;
    if (h < 0 || h >= s.h_in) {
      for (int64_t q = q0; q < q_end; q++) store(to + q * kLanes, Vec{});
      continue;
    }
    const Pairs here = load_pairs(image + h * s.w_in, first);
    const Pairs next = reaches ? load_pairs(image + h * s.w_in, second) : Pairs{Vec{}, Vec{}};
    store(to + q0 * kLanes, here.even);
    if (q0 + 1 < q_end) store(to + (q0 + 1) * kLanes, here.odd);
    IntVec lanes = lane_numbers() + 1;
    for (int64_t q = q0 + 2; q < q_end; q += 2, lanes += 1) {
      store(to + q * kLanes, __builtin_shuffle(here.even, next.even, lanes));
      if (q + 1 < q_end) store(to + (q + 1) * kLanes, __builtin_shuffle(here.odd, next.odd, lanes));
    }
  }
}

// The input of block `block` of pooled columns of one image.
void spread(const ConvPoolShape& s, const float* image, int64_t block, float* to) {
  const int64_t start = 2 * kLanes * block - s.pad_left;
  for (int64_t c = 0; c < s.c_in; c++)
    for (int64_t q = 0; q <= s.kw; q += 2 * kLanes)
      spread_rows(s, image + c * s.h_in * s.w_in, start, q, to + c * seen_rows(s) * spread_pitch(s));
}

// The pixels [j, j + count) of row i of all channels, as one vector per channel, to and from an image. `scratch` holds
// as many vectors.
void store_pixels(const ConvPoolShape& s, const Interleaving& to_pixels, const float* vectors, int64_t i, int64_t j,
                  int64_t count, float* y) {
  if (s.y_layout == Layout::row_major) {
    for (int64_t o = 0; o < s.c_out; o++)
      store_partial(y + (o * s.h_out + i) * s.w_out + j, load(vectors + o * kLanes), count);
    return;
  }
  y += (i * s.w_out + j) * s.c_out;
  if (!interleaves(s)) return transpose_matrix(s.c_out, count, vectors, kLanes, y, s.c_out);
  to_pixels.apply(s.c_out, vectors, count * s.c_out, y);
}

void load_pixels(const ConvPoolShape& s, const Interleaving& to_vectors, const float* dy, int64_t i, int64_t j,
                 int64_t count, float* scratch, float* vectors) {
  if (s.y_layout == Layout::row_major) {
    for (int64_t o = 0; o < s.c_out; o++)
      store(vectors + o * kLanes, load_partial(dy + (o * s.h_out + i) * s.w_out + j, count));
    return;
  }
  dy += (i * s.w_out + j) * s.c_out;
  if (!interleaves(s)) return transpose_matrix(count, s.c_out, dy, s.c_out, vectors, kLanes);
  copy_floats(dy, count * s.c_out, scratch);
  to_vectors.apply(s.c_out, scratch, s.c_out * kLanes, vectors);
}

// ---- forward ------------------------------------------------------------------------------------------------------

// One vector of pooled pixels of O filters; `top` is the first input row that they see.
template <int O>
void pool_filters(const ConvPoolShape& s, const float* top, const int64_t* offsets, const float* w, const float* bias,
                  float* y, PoolMask* mask) {
  Vec left0[O], right0[O], left1[O], right1[O];
#pragma GCC unroll 8
  for (int o = 0; o < O; o++) left0[o] = right0[o] = left1[o] = right1[o] = splat(bias[o]);
  const int64_t pitch = spread_pitch(s), count = taps(s);
  for (int64_t t = 0; t < count; t++, w += O) {
    const float *row0 = top + offsets[t], *row1 = row0 + pitch;
    const Vec x0 = load(row0), next0 = load(row0 + kLanes), x1 = load(row1), next1 = load(row1 + kLanes);
#pragma GCC unroll 8
    for (int o = 0; o < O; o++) {
      const Vec tap = splat(w[o]);
      left0[o] += tap * x0;
      right0[o] += tap * next0;
      left1[o] += tap * x1;
      right1[o] += tap * next1;
    }
  }
  pool_windows(left0, right0, left1, right1, mask, [&](int o, Vec pooled) { store(y + o * kLanes, pooled); });
}

struct ForwardScratch {
  float *spread, *y;
  int64_t floats;
  ForwardScratch(const ConvPoolShape& s, float* workspace) {
    Parts parts{workspace, 0};
    spread = parts.take(spread_floats(s));
    y = parts.take((s.h_out * s.c_out + 1) * kLanes);  // one more: rows are read in pairs of vectors
    floats = parts.used;
  }
};

// Masks: (row, block of pixels, channel).
int64_t masks(const ConvPoolShape& s) { return s.h_out * blocks(s) * s.c_out; }
int64_t mask_bytes(const ConvPoolShape& s) { return masks(s) * int64_t(sizeof(PoolMask)); }

// All rows of a block, as (row, channel, pixel).
void pool_block(const ConvPoolShape& s, const PackedPixels& weights, const ForwardScratch& scratch, PoolMask* mask) {
  const int64_t mask_row = blocks(s) * s.c_out, row = s.c_out * kLanes, top = 2 * spread_pitch(s);
  for (int64_t o = 0, filters; o < s.c_out; o += filters) {
    filters = next_tile(s.c_out - o, kFilters);
    with_count<kFilters>(filters, [&](auto count) {
      for (int64_t i = 0; i < s.h_out; i++)
        pool_filters<count.value>(s, scratch.spread + i * top, weights.offsets, weights.forward + o * taps(s),
                                  weights.bias + o, scratch.y + i * row + o * kLanes, mask + i * mask_row + o);
    });
  }
}

void forward(const ConvPoolShape& s, const float* x, const float* packed, float* y, void* mask, float* workspace) {
  const PackedPixels weights(s, const_cast<float*>(packed));
  const ForwardScratch scratch(s, workspace);
  const Interleaving to_pixels(s.c_out, weights.to_pixels);
  for (int64_t n = 0; n < s.n; n++) {
    PoolMask* image_mask = static_cast<PoolMask*>(mask) + n * masks(s);
    for (int64_t block = 0; block < blocks(s); block++) {
      spread(s, x + n * s.c_in * s.h_in * s.w_in, block, scratch.spread);
      pool_block(s, weights, scratch, image_mask + block * s.c_out);
      for (int64_t i = 0; i < s.h_out; i++)
        store_pixels(s, to_pixels, scratch.y + i * s.c_out * kLanes, i, block * kLanes, pixels_in(s, block),
                     y + n * s.c_out * s.h_out * s.w_out);
    }
  }
}

// ---- backward -----------------------------------------------------------------------------------------------------

// Partial gradients: (filter, tap, lane), then the bias as (filter, lane).
int64_t gradient_floats(const ConvPoolShape& s) { return s.c_out * (taps(s) + 1) * kLanes; }

struct BackwardScratch {
  float *spread, *dy, *pixels, *dx;
  int64_t floats;
  int64_t dx_pitch;
  BackwardScratch(const ConvPoolShape& s, float* workspace) {
    Parts parts{workspace, 0};
    spread = parts.take(spread_floats(s));
    dy = parts.take(s.h_out * s.c_out * kLanes);
    pixels = parts.take((s.c_out + 1) * kLanes);
    dx_pitch = 2 * s.w_out + whole_vectors(s.kw);
    dx = parts.take(s.c_in * seen_rows(s) * dx_pitch);
    floats = parts.used;
  }
};

int64_t workspace_floats(const ConvPoolShape& s) {
  return max_of(ForwardScratch(s, nullptr).floats, BackwardScratch(s, nullptr).floats);
}

// The gradients of one block of pixels that pass the ReLU, as (row, channel, lane), added to the bias's on the way.
void rectify_gradient(const ConvPoolShape& s, const Interleaving& to_vectors, const float* dy, const PoolMask* mask,
                      int64_t block, float* scratch, float* to, float* db) {
  const int64_t count = pixels_in(s, block);
  const uint16_t whole = mask_bits(lanes_between(0, count));
  mask += block * s.c_out;
  for (int64_t i = 0; i < s.h_out; i++, to += s.c_out * kLanes, mask += blocks(s) * s.c_out) {
    load_pixels(s, to_vectors, dy, i, block * kLanes, count, scratch, to);
    for (int64_t o = 0; o < s.c_out; o++) {
      const Vec d = select(mask_of_bits(mask[o].alive & whole), load(to + o * kLanes), Vec{});
      store(to + o * kLanes, d);
      store(db + o * kLanes, load(db + o * kLanes) + d);
    }
  }
}

// R x K taps of one filter and input channel, over all rows of a block. x: the spread input of the first tap; dy and
// mask: of the first row.
template <int R, int K>
void add_taps(const ConvPoolShape& s, const float* x, const float* dy, const PoolMask* mask, float* dw) {
  Vec sums[R][K];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) sums[r][k] = load(dw + (r * s.kw + k) * kLanes);
  const int64_t pitch = spread_pitch(s), mask_step = blocks(s) * s.c_out;
  for (int64_t i = 0; i < s.h_out; i++, dy += s.c_out * kLanes, mask += mask_step, x += 2 * pitch) {
    const LaneMask second_row = mask_of_bits(mask->second), right = mask_of_bits(mask->right);
    const Vec d = load(dy), above = select(second_row, Vec{}, d), below = select(second_row, d, Vec{});
    const float* from = x;
#pragma GCC unroll 8
    for (int r = 0; r <= R; r++, from += pitch) {
      Vec left = load(from);
#pragma GCC unroll 8
      for (int k = 0; k < K; k++) {
        Vec next = load(from + (k + 1) * kLanes);
        keep(next);
        const Vec pixel = select(right, next, left);
        if (r < R) sums[r][k] += above * pixel;
        if (r > 0) sums[r - 1][k] += below * pixel;
        left = next;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) store(dw + (r * s.kw + k) * kLanes, sums[r][k]);
}

void add_weight_gradient(const ConvPoolShape& s, const float* x, const float* dy, const PoolMask* mask, float* dw) {
  const int64_t filter = taps(s) * kLanes;
  for (int64_t r = 0, rows; r < s.kh; r += rows) {
    rows = next_tile(s.kh - r, kTapRows);
    for (int64_t t = 0, columns; t < s.kw; t += columns) {
      columns = next_tile(s.kw - t, kTapColumns);
      with_count<kTapRows>(rows, [&](auto row_count) {
        with_count<kTapColumns>(columns, [&](auto column_count) {
          for (int64_t c = 0; c < s.c_in; c++) {
            const float* first_x = x + (c * seen_rows(s) + r) * spread_pitch(s) + t * kLanes;
            float* first_dw = dw + ((c * s.kh + r) * s.kw + t) * kLanes;
            for (int64_t o = 0; o < s.c_out; o++)
              add_taps<row_count.value, column_count.value>(s, first_x, dy + o * kLanes, mask + o,
                                                            first_dw + o * filter);
          }
        });
      });
    }
  }
}

// Adds each living gradient times its filter to the padded dx, `pitch` floats per row.
void scatter_to_input(const ConvPoolShape& s, const float* dy, const PoolMask* mask, int64_t block, const float* w,
                      float* dx, int64_t pitch) {
  const int64_t width = whole_vectors(s.kw);
  for (int64_t i = 0; i < s.h_out; i++)
    for (int64_t o = 0; o < s.c_out; o++) {
      const PoolMask m = mask[i * blocks(s) * s.c_out + o];
      for (int64_t l = 0; l < pixels_in(s, block); l++) {
        if (!(m.alive >> l & 1)) continue;
        const Vec d = splat(dy[(i * s.c_out + o) * kLanes + l]);
        const int64_t row = 2 * i + (m.second >> l & 1), column = 2 * (block * kLanes + l) + (m.right >> l & 1);
        for (int64_t c = 0; c < s.c_in; c++)
          for (int64_t r = 0; r < s.kh; r++) {
            const float* from = w + ((o * s.c_in + c) * s.kh + r) * width;
            float* to = dx + (c * seen_rows(s) + row + r) * pitch + column;
            for (int64_t v = 0; v < width; v += kLanes) store(to + v, load(to + v) + d * load(from + v));
          }
      }
    }
}

// Takes the padding off dx; what no window saw is zero.
void crop_to_input(const ConvPoolShape& s, const float* padded, int64_t pitch, float* dx) {
  const int64_t count = max_of<int64_t>(0, min_of(s.w_in, seen_columns(s) - s.pad_left));
  for (int64_t c = 0; c < s.c_in; c++)
    for (int64_t h = 0; h < s.h_in; h++, dx += s.w_in) {
      const int64_t row = h + s.pad_top;
      const bool seen = row < seen_rows(s);
      const float* from = padded + (c * seen_rows(s) + row) * pitch + s.pad_left;
      for (int64_t w = 0; w < s.w_in; w++) dx[w] = seen && w < count ? from[w] : 0;
    }
}

void backward(const ConvPoolShape& s, const float* dy, const void* mask, const float* x, const float* packed, float* dx,
              float* gradient, float* workspace) {
  const PackedPixels weights(s, const_cast<float*>(packed));
  const BackwardScratch scratch(s, workspace);
  const Interleaving to_vectors(s.c_out, weights.to_vectors);
  const int64_t in = s.c_in * s.h_in * s.w_in;
  float* db = gradient + s.c_out * taps(s) * kLanes;
  for (int64_t n = 0; n < s.n; n++) {
    const PoolMask* image_mask = static_cast<const PoolMask*>(mask) + n * masks(s);
    const float* image_dy = dy + n * s.c_out * s.h_out * s.w_out;
    if (dx) memset(scratch.dx, 0, size_t(s.c_in * seen_rows(s) * scratch.dx_pitch) * sizeof(float));
    for (int64_t block = 0; block < blocks(s); block++) {
      const PoolMask* block_mask = image_mask + block * s.c_out;
      spread(s, x + n * in, block, scratch.spread);
      rectify_gradient(s, to_vectors, image_dy, image_mask, block, scratch.pixels, scratch.dy, db);
      add_weight_gradient(s, scratch.spread, scratch.dy, block_mask, gradient);
      if (dx) scatter_to_input(s, scratch.dy, block_mask, block, weights.backward, scratch.dx, scratch.dx_pitch);
    }
    if (dx) crop_to_input(s, scratch.dx, scratch.dx_pitch, dx + n * in);
  }
}

void sum_gradients(const ConvPoolShape& s, const float* const* gradients, int64_t count, float* dw, float* db) {
  const int64_t weights = s.c_out * taps(s);
  for (int64_t t = 0; t < weights + s.c_out; t++) {
    Vec total = load(gradients[0] + t * kLanes);
    for (int64_t shard = 1; shard < count; shard++) total += load(gradients[shard] + t * kLanes);
    (t < weights ? dw[t] : db[t - weights]) = sum(total);
  }
}

}  // namespace

ConvPoolKernels pooled_pixels_kernels() {
  return {packed_floats, pack, mask_bytes, workspace_floats, forward, gradient_floats, backward, sum_gradients};
}

}  // namespace convcore::cpu::CONVCORE_ISA

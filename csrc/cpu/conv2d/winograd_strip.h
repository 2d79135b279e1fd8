// The input transform of Winograd's tiles, strip by strip: tiles beside each other share columns of pixels.
#pragma once
#include "cpu/conv2d/winograd.h"

namespace convcore::cpu::CONVCORE_ISA {

// The input of tiles that are neighbours in a row: the rows of pixels, of which the columns `begin` to `end` exist.
// Rows outside the image point to zeros. Column 0 is the first that the first tile sees.
template <int kIn>
struct Strip {
  const float* row[kIn];  // at column `begin`
  int64_t begin, end, pixel;
  int64_t tiles;
};

// The strip of an image (h_in, w_in, channels) whose first tile sees pixel (h, w) first. `zeros` is as long as a row.
template <int kIn>
CONVCORE_INLINE Strip<kIn> strip_at(const float* image, int64_t h_in, int64_t w_in, int64_t channels, int64_t h,
                                    int64_t w, int64_t tiles, const float* zeros) {
  Strip<kIn> strip;
  strip.tiles = tiles, strip.pixel = channels;
  strip.begin = max_of<int64_t>(0, -w), strip.end = w_in - w;
  for (int64_t i = 0; i < kIn; i++) {
    const bool inside = 0 <= h + i && h + i < h_in;
    strip.row[i] = inside ? image + ((h + i) * w_in + w + strip.begin) * channels : zeros;
  }
  return strip;
}

template <bool whole>
CONVCORE_INLINE Vec load_lanes(const float* p, int64_t lanes) {
  if constexpr (whole) return load(p);
  return load_partial(p, lanes);
}

// The 1-D transform down the rows, at one column: two of the values.
template <int pair, bool whole, int kIn>
CONVCORE_INLINE VecPair transform_column(const float* const (&row)[kIn], int64_t at, int64_t lanes) {
  Vec d[kIn];
#pragma GCC unroll 6
  for (int i = 0; i < kIn; i++) {
    const bool used = pair == 0 || (i > 0 && i < kIn - 1);
    d[i] = used ? load_lanes<whole>(row[i] + at, lanes) : Vec{};
  }
  return winograd_input_pair<pair>(d);
}

// The 1-D transform along a row, which completes one row of V.
template <int kIn, int pair = 0>
CONVCORE_INLINE void store_row(float* v, int64_t point, const Vec (&d)[kIn]) {
  const VecPair values = winograd_input_pair<pair>(d);
  store(v + first_point(pair) * point, values.first), store(v + second_point(kIn, pair) * point, values.second);
  if constexpr (pair + 1 < kIn / 2) store_row<kIn, pair + 1>(v, point, d);
}

// The two rows of V of a pair, for every tile of a strip: values `point` floats apart, tiles kLanes. The last two
// columns of a tile are the first two of the next; twice as many registers as points hold the columns of one tile.
template <int pair, bool whole, int kIn>
__attribute__((noinline)) static void transform_strip(const Strip<kIn>& s, int64_t channel, int64_t lanes, float* first,
                                                      float* second, int64_t point) {
  constexpr int kTile = kIn - 2;
  const float* row[kIn];
  for (int i = 0; i < kIn; i++) row[i] = s.row[i] + channel;
  const int64_t begin = s.begin, end = s.end, pixel = s.pixel;
  const auto column = [&](int64_t j) {
    if (j < begin || j >= end) return VecPair{};
    return transform_column<pair, whole>(row, (j - begin) * pixel, lanes);
  };
  Vec a[kIn], b[kIn];  // the columns of the first and the second row
  const auto set = [&](int j, const VecPair& values)
                       __attribute__((always_inline)) { a[j] = values.first, b[j] = values.second; };
  set(0, column(0)), set(1, column(1));
  for (int64_t t = 0, j = 2; t < s.tiles; t++, j += kTile, first += kLanes, second += kLanes) {
    if (j >= begin && j + kTile <= end) {
      const int64_t at = (j - begin) * pixel;
#pragma GCC unroll 4
      for (int i = 0; i < kTile; i++) set(2 + i, transform_column<pair, whole>(row, at + i * pixel, lanes));
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < kTile; i++) set(2 + i, column(j + i));
    }
    store_row(first, point, a);
    store_row(second, point, b);
    a[0] = a[kTile], a[1] = a[kTile + 1], b[0] = b[kTile], b[1] = b[kTile + 1];
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

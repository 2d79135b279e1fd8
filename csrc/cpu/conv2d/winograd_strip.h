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

// The strip of an image (h_in, w_in, channels) whose first tile sees pixel (h, w) first, and of the rows and columns
// every `step`-th. `zeros` is as long as a row.
template <int kIn>
CONVCORE_INLINE Strip<kIn> strip_at(const float* image, int64_t h_in, int64_t w_in, int64_t channels, int64_t h,
                                    int64_t w, int64_t step, int64_t tiles, const float* zeros) {
  const auto columns = [&](int64_t pixels) { return pixels > 0 ? (pixels + step - 1) / step : 0; };
  Strip<kIn> strip;
  strip.tiles = tiles, strip.pixel = step * channels;
  strip.begin = columns(-w), strip.end = columns(w_in - w);
  for (int64_t i = 0; i < kIn; i++) {
    const int64_t at = h + step * i;
    strip.row[i] = 0 <= at && at < h_in ? image + (at * w_in + w + step * strip.begin) * channels : zeros;
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
    const bool used = pair == 0 || (i < kIn - 1 && (i > 0 || kIn % 2));
    d[i] = used ? load_lanes<whole>(row[i] + at, lanes) : Vec{};
  }
  return winograd_input_pair<pair>(d);
}

// The 1-D transform along a row, which completes one row of V: its values from pair `pair` on, that at infinity at
// v + last.
template <int pair, int kIn>
CONVCORE_INLINE void store_row(float* v, int64_t point, int64_t last, const Vec (&d)[kIn]) {
  const VecPair values = winograd_input_pair<pair>(d);
  if constexpr (pair > 0) {
    store(v + first_point(kIn, pair) * point, values.first);
    store(v + second_point(kIn, pair) * point, values.second);
  } else if constexpr (kIn % 2) {
    store(v + last, values.first);
  } else {
    store(v, values.first);
    store(v + last, values.second);
  }
  if constexpr (pair + 1 < pairs_of(kIn)) store_row<pair + 1>(v, point, last, d);
}

// The one or two rows of V of a pair, for every tile of a strip: values `point` floats apart, that at infinity at
// `last`, tiles kLanes apart. Of kColumns columns the last ones of a tile are the first of the next; twice as many
// registers as points hold the columns of one tile. One column less than points (a phase of one tap): no value at
// infinity.
template <int pair, bool whole, int kTile, int kColumns, int kIn>
__attribute__((noinline)) static void transform_strip(const Strip<kIn>& s, int64_t channel, int64_t lanes, float* first,
                                                      float* second, int64_t point, int64_t last) {
  constexpr int kShared = kColumns - kTile, kFirstPair = kColumns < kIn ? 1 : 0;
  constexpr bool two = pair > 0 || kIn % 2 == 0;
  const float* row[kIn];
  for (int i = 0; i < kIn; i++) row[i] = s.row[i] + channel;
  const int64_t begin = s.begin, end = s.end, pixel = s.pixel;
  const auto column = [&](int64_t j) {
    if (j < begin || j >= end) return VecPair{};
    return transform_column<pair, whole>(row, (j - begin) * pixel, lanes);
  };
  Vec a[kIn] = {}, b[kIn] = {};  // the columns of the first and the second row
  const auto set = [&](int j, const VecPair& values)
                       __attribute__((always_inline)) { a[j] = values.first, b[j] = values.second; };
#pragma GCC unroll 4
  for (int i = 0; i < kShared; i++) set(i, column(i));
  for (int64_t t = 0, j = kShared; t < s.tiles; t++, j += kTile, first += kLanes, second += kLanes) {
    if (j >= begin && j + kTile <= end) {
      const int64_t at = (j - begin) * pixel;
#pragma GCC unroll 4
      for (int i = 0; i < kTile; i++) set(kShared + i, transform_column<pair, whole>(row, at + i * pixel, lanes));
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < kTile; i++) set(kShared + i, column(j + i));
    }
    store_row<kFirstPair>(first, point, last, a);
    if constexpr (two) store_row<kFirstPair>(second, point, last, b);
#pragma GCC unroll 4
    for (int i = 0; i < kShared; i++) a[i] = a[kTile + i], b[i] = b[kTile + i];
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

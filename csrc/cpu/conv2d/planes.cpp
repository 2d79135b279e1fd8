#include "cpu/conv2d/planes.h"

#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

// Source rows with zeros around, so that every copy can be read from them without a test: a few rows at a time, so that
// they stay in L1 (all of them would be a second image, and with a far-flung filter far more than that).
struct PaddedRows {
  int64_t left, right, width;
  int64_t rows;  // that are padded at once

  explicit PaddedRows(const PlaneLayout& layout) : left(0), right(0) {
    constexpr int64_t kFloats = 1 << 12;  // 16 KiB
    for (int64_t s = 0; s < layout.copies; s++) {
      const Gather g = layout.copy_columns[s];
      left = max_of(left, -g.first);
      right = max_of(right, g.first + (layout.columns - 1) * g.step + 1 - layout.in_columns);
    }
    width = left + layout.in_columns + right;
    rows = max_of<int64_t>(1, min_of(layout.rows, kFloats / max_of<int64_t>(1, width)));
  }
};

// padded[a][left + j] = x[phase.first + (row0 + a) * phase.step][j] for a < rows. The zeros at the ends are there
// already.
void pad_rows(const PlaneLayout& layout, const PaddedRows& padding, Gather phase, int64_t row0, int64_t rows,
              const float* x, float* padded) {
  const int64_t whole = layout.in_columns / kLanes * kLanes, rest = layout.in_columns - whole;
  for (int64_t a = 0; a < rows; a++) {
    const int64_t i = phase.first + (row0 + a) * phase.step;
    const float* from = x + i * layout.in_columns;
    float* to = padded + a * padding.width + padding.left;
    const bool inside = 0 <= i && i < layout.in_rows;
    for (int64_t j = 0; j < whole; j += kLanes) store(to + j, inside ? load(from + j) : Vec{});
    if (rest) store_partial(to + whole, inside ? load_partial(from + whole, rest) : Vec{}, rest);
  }
}

// One copy: plane[a][j] = padded[a][left + g.first + j * g.step], zeros from `columns` on.
void copy_columns(const PlaneLayout& layout, const PaddedRows& padding, Gather g, int64_t rows, const float* padded,
                  float* plane) {
  const int64_t whole = layout.pitch - kLanes, last = layout.columns - whole;
  for (int64_t a = 0; a < rows; a++, plane += layout.pitch) {
    const float* from = padded + a * padding.width + padding.left + g.first;
    if (g.step == 1) {
      for (int64_t j = 0; j < whole; j += kLanes) store(plane + j, load(from + j));
      store(plane + whole, load_partial(from + whole, last));
    } else if (g.step == 2) {
      for (int64_t j = 0; j < whole; j += kLanes) store(plane + j, load_every_second(from + 2 * j, kLanes));
      store(plane + whole, load_every_second(from + 2 * whole, last));
    } else {
      for (int64_t j = 0; j < layout.columns; j++) plane[j] = from[j * g.step];
      for (int64_t j = layout.columns; j < layout.pitch; j++) plane[j] = 0;
    }
  }
}

}  // namespace

int64_t fill_scratch(const PlaneLayout& layout) {
  const PaddedRows padding(layout);
  return padding.rows * padding.width;
}

void fill_planes(const PlaneLayout& layout, int64_t channels, const float* x, int64_t row0, float* planes,
                 float* scratch) {
  const PaddedRows padding(layout);
  for (int64_t a = 0; a < padding.rows; a++) {
    float* row = scratch + a * padding.width;
    for (int64_t j = 0; j < padding.left; j++) row[j] = 0;
    for (int64_t j = padding.left + layout.in_columns; j < padding.width; j++) row[j] = 0;
  }
  for (int64_t c = 0; c < channels; c++, x += layout.in_rows * layout.in_columns, planes += layout.channel())
    for (int64_t e = 0; e < layout.phases; e++)
      for (int64_t a = 0; a < layout.rows; a += padding.rows) {
        const int64_t rows = min_of(padding.rows, layout.rows - a);
        pad_rows(layout, padding, layout.phase_rows[e], row0 + a, rows, x, scratch);
        for (int64_t s = 0; s < layout.copies; s++)
          copy_columns(layout, padding, layout.copy_columns[s], rows, scratch, planes + layout.offset(e, s, a));
      }
}

namespace {

// R output channels times V vectors; vector q of the output plane is row i, columns j .. j + kLanes - 1.
template <int R, int V>
void sum_tile(const PlanarSum& s, int64_t k, int64_t q, int64_t i, int64_t j) {
  Tile<R, V> tile;
  tile.fill(s.bias ? s.bias + k : nullptr);
  const float* planes = s.planes + q * kLanes;
  const float* a = s.a + k * s.terms;
  tile.multiply_add(
      s.terms, [&](int r, int64_t t) { return a[r * s.terms + t]; }, [&](int64_t t) { return planes + s.offsets[t]; });
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const int64_t lanes = min_of<int64_t>(kLanes, s.columns - j);
    float* to = s.out + k * s.out_m + i * s.out_row + j * s.out_column;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++, to += s.out_m) {
      if (s.out_column == 1 && lanes == kLanes)
        store(to, tile.acc[r][v]);
      else if (s.out_column == 1)
        store_partial(to, tile.acc[r][v], lanes);
      else {
        float values[kLanes];
        store(values, tile.acc[r][v]);
        for (int64_t l = 0; l < lanes; l++) to[l * s.out_column] = values[l];
      }
    }
    j += kLanes;
    if (j == s.pitch) j = 0, i++;
  }
}

}  // namespace

void planar_sum(const PlanarSum& s) {
  const int64_t total = s.rows * (s.pitch / kLanes);
  for (int64_t q = 0, vecs; q < total; q += vecs) {
    vecs = next_tile(total - q, kTileVecs);
    const int64_t i = q * kLanes / s.pitch, j = q * kLanes % s.pitch;
    with_count<kTileVecs>(vecs, [&](auto v) {
      for (int64_t k = 0, rows; k < s.m; k += rows) {
        rows = next_tile(s.m - k, kTileRows);
        with_count<kTileRows>(rows, [&](auto r) { sum_tile<r.value, v.value>(s, k, q, i, j); });
      }
    });
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

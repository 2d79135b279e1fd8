#include "cpu/conv2d/planes.h"

#include "cpu/tile.h"
#include "cpu/transpose.h"

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

// Places begin .. end - 1 of a row from `from`, zeros elsewhere; whole vectors are stored, past `pitch` if need be.
void fill_row(const float* from, int64_t begin, int64_t end, int64_t pitch, float* to) {
  for (int64_t j = 0; j < pitch; j += kLanes) {
    const auto lane = [&](int64_t place) { return min_of<int64_t>(kLanes, max_of<int64_t>(0, place - j)); };
    const bool whole = begin <= j && j + kLanes <= end;
    store(to + j, whole ? load(from + j) : load_between(from + j, lane(begin), lane(end)));
  }
}

}  // namespace

void fill_whole_rows(const PlaneLayout& layout, int64_t channels, const float* x, Layout x_layout, int64_t stride,
                     int64_t row0, float* planes) {
  // In ascending order of memory: what a row stores past its end, the next one overwrites.
  const bool turned = x_layout == Layout::channels_last;
  if (turned)
    for (int64_t j = 0; j < channels * layout.channel(); j += kLanes) store(planes + j, Vec{});
  for (int64_t c = 0; c < (turned ? 1 : channels); c++)
    for (int64_t e = 0; e < layout.phases; e++)
      for (int64_t s = 0; s < layout.copies; s++) {
        const int64_t shift = layout.copy_columns[s].first;  // place j holds column shift + j
        const int64_t begin = min_of(layout.columns, max_of<int64_t>(0, -shift));
        const int64_t end = max_of(begin, min_of(layout.columns, layout.in_columns - shift));
        float* plane = planes + c * layout.channel() + layout.offset(e, s, 0);
        for (int64_t a = 0; a < layout.rows; a++, plane += layout.pitch) {
          const int64_t i = layout.phase_rows[e].first + (row0 + a) * layout.phase_rows[e].step;
          const bool inside = 0 <= i && i < layout.in_rows;
          if (!turned)
            fill_row(x + (c * layout.in_rows + i) * layout.in_columns + shift, inside ? begin : 0, inside ? end : 0,
                     layout.pitch, plane);
          else if (inside)
            transpose_matrix(end - begin, channels, x + (i * layout.in_columns + shift + begin) * stride, stride,
                             plane + begin, layout.channel());
        }
      }
}

namespace {

// A tile is R rows of one vector, of M output channels. A run keeps the R rows that its tap reads in registers and
// loads one more for the next tap: R + taps - 1 loads and M * taps broadcasts for M * R * taps FMAs, so that loads that
// cross a cache line cost nothing. 3 channels x 7 rows: 21 sums, 7 rows of the planes and 1 weight are 29 registers.
constexpr int kMostChannels = 4;
constexpr int kMostRows = 12;
constexpr int rows_of_tile(int channels) {
  const int rows = (kRegisters - 2) / (channels + 1);
  return rows < kMostRows ? rows : kMostRows;
}

template <int M, int R>
__attribute__((noinline)) void sum_tile(const PlanarSum& s, int64_t m, int64_t i, int64_t j) {
  Vec acc[M][R];
#pragma GCC unroll 8
  for (int k = 0; k < M; k++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) acc[k][r] = s.bias ? splat(s.bias[m + k]) : Vec{};
  const float* a = s.a + m;
  for (int64_t run = 0; run < s.run_count; run++) {
    const float* row = s.planes + s.runs[run].offset + i * s.pitch + j;
    Vec x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R - 1; r++, row += s.pitch) x[r] = load(row);
    for (int64_t u = s.runs[run].taps; u > 0; u--, row += s.pitch, a += s.m) {
      x[R - 1] = load(row);
#pragma GCC unroll 8
      for (int k = 0; k < M; k++) {
        const Vec w = splat(a[k]);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) acc[k][r] += w * x[r];
      }
#pragma GCC unroll 16
      for (int r = 0; r < R - 1; r++) x[r] = x[r + 1];
    }
  }
  const int64_t lanes = min_of<int64_t>(kLanes, s.columns - j);
#pragma GCC unroll 8
  for (int k = 0; k < M; k++) {
    float* to = s.out + (m + k) * s.out_m + i * s.out_row + j * s.out_column;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++, to += s.out_row) {
      if (s.out_column == 1)
        store_partial(to, acc[k][r], lanes);
      else {
        float values[kLanes];
        store(values, acc[k][r]);
        for (int64_t l = 0; l < lanes; l++) to[l * s.out_column] = values[l];
      }
    }
  }
}

}  // namespace

static void sum_rows(const PlanarSum& s) {
  for (int64_t j = 0; j < s.columns; j += kLanes)
    for (int64_t m = 0, channels; m < s.m; m += channels) {
      channels = next_tile(s.m - m, kMostChannels);
      with_count<kMostChannels>(channels, [&](auto c) {
        constexpr int kRows = rows_of_tile(c.value);
        for (int64_t i = 0, rows; i < s.rows; i += rows) {
          rows = next_tile(s.rows - i, kRows);
          with_count<kRows>(rows, [&](auto r) { sum_tile<c.value, r.value>(s, m, i, j); });
        }
      });
    }
}

void planar_sum(const PlanarSum& s) {
  const int64_t vecs = s.rows == 1 && s.single_taps ? s.columns / kLanes : 0;
  if (vecs <= 1) return sum_rows(s);
  // A single row: its vectors take the place of the rows of a tile.
  PlanarSum part = s;
  part.rows = vecs, part.columns = part.pitch = kLanes, part.out_row = kLanes * s.out_column;
  sum_rows(part);
  part = s;
  part.planes += vecs * kLanes, part.out += vecs * kLanes * s.out_column, part.columns -= vecs * kLanes;
  sum_rows(part);
}

}  // namespace convcore::cpu::CONVCORE_ISA

#include "cpu/planar.h"

#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

static_assert(kPlaneSlack >= kTileVecs * kLanes, "a tile may read this far past the last pixel");

constexpr int64_t kBlockPixels = 512;  // output pixels computed before they are copied out: all rows of them fit in L2

// One row of a phase plane: x[input(e, b)] for b = 0 .. size-1.
CONVCORE_INLINE void fill_row(const PhaseAxis& axis, int64_t e, const float* x, float* row) {
  const int64_t stride = axis.window.stride, first = axis.input(e, 0);
  // b is inside the image for begin <= b < end
  const int64_t begin = min_of(axis.size, first < 0 ? (-first + stride - 1) / stride : 0);
  const int64_t end = max_of(begin, min_of(axis.size, axis.in > first ? (axis.in - first + stride - 1) / stride : 0));
  for (int64_t b = 0; b < begin; b++) row[b] = 0;
  if (stride == 1)
    memcpy(row + begin, x + first + begin, size_t(end - begin) * sizeof(float));
  else
    for (int64_t b = begin; b < end; b++) row[b] = x[first + b * stride];
  for (int64_t b = end; b < axis.size; b++) row[b] = 0;
}

// How the output plane is cut: a run of consecutive floats per block, over whole rows (the few columns between the rows
// are computed and thrown away) or row by row.
struct Runs {
  int64_t rows_per_run, runs, pixels;  // pixels of a full run
  bool direct;                         // runs lie in `out` as they are computed: no copy
};

Runs choose_runs(const PlanarSum& s) {
  if (s.pitch == s.columns) return {s.rows, 1, s.rows * s.columns, s.out_column == 1 && s.out_row == s.columns};
  const int64_t rows = max_of<int64_t>(1, min_of(s.rows, kBlockPixels / s.pitch));
  const int64_t flat_pixels = (rows - 1) * s.pitch + s.columns;
  const int64_t flat_vecs = (s.rows + rows - 1) / rows * ((flat_pixels + kLanes - 1) / kLanes);
  const int64_t row_vecs = s.rows * ((s.columns + kLanes - 1) / kLanes);
  // Short rows make narrow tiles (more broadcasts per product): they must save a tenth to be worth it.
  const bool by_row = s.columns >= kTileVecs * kLanes ? row_vecs <= flat_vecs : 10 * row_vecs <= 9 * flat_vecs;
  if (by_row) return {1, s.rows, s.columns, s.out_column == 1};
  return {rows, (s.rows + rows - 1) / rows, flat_pixels, false};
}

template <int R, int V>
void sum_tile(const PlanarSum& s, int64_t k, const float* plane, float* out, int64_t out_stride, int64_t last) {
  Tile<R, V> tile;
  tile.fill(s.bias ? s.bias + k : nullptr);
  const float* a = s.a + k * s.a_row;
  for (int64_t c = 0; c < s.channels; c++, a += s.taps, plane += s.plane_stride)
    tile.multiply_add(a, s.a_row, 1, s.taps, [&](int64_t t) { return plane + s.offsets[t]; });
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      float* to = out + r * out_stride + v * kLanes;
      if (v == V - 1 && last < kLanes)
        store_partial(to, tile.acc[r][v], last);
      else
        store(to, tile.acc[r][v]);
    }
}

// `pixels` consecutive outputs of every m, starting at `plane`, to out[m * out_stride + pixel].
void sum_run(const PlanarSum& s, const float* plane, int64_t pixels, float* out, int64_t out_stride) {
  for (int64_t p = 0, vecs; p < pixels; p += vecs * kLanes) {
    const int64_t left = (pixels - p + kLanes - 1) / kLanes;
    vecs = next_tile(left, kTileVecs);
    const int64_t last = min_of<int64_t>(kLanes, pixels - p - (vecs - 1) * kLanes);
    with_vecs(vecs, [&](auto v) {
      for (int64_t k = 0, rows; k < s.m; k += rows) {
        rows = next_tile(s.m - k, kTileRows);
        with_rows(rows, [&](auto r) {
          sum_tile<r.value, v.value>(s, k, plane + p, out + k * out_stride + p, out_stride, last);
        });
      }
    });
  }
}

}  // namespace

void fill_planes(const PlaneLayout& layout, int64_t channels, const float* x, float* planes) {
  const int64_t pitch = layout.pitch();
  for (int64_t c = 0; c < channels; c++, x += layout.h.in * layout.w.in)
    for (int64_t eh = 0; eh < layout.h.phases; eh++)
      for (int64_t ew = 0; ew < layout.w.phases; ew++)
        for (int64_t a = 0; a < layout.h.size; a++, planes += pitch) {
          const int64_t i = layout.h.input(eh, a);
          if (0 <= i && i < layout.h.in)
            fill_row(layout.w, ew, x + i * layout.w.in, planes);
          else
            memset(planes, 0, size_t(pitch) * sizeof(float));
        }
}

int64_t planar_scratch(const PlanarSum& s) { return choose_runs(s).direct ? 0 : s.m * choose_runs(s).pixels; }

void planar_sum(const PlanarSum& s, float* scratch) {
  const Runs runs = choose_runs(s);
  for (int64_t run = 0; run < runs.runs; run++) {
    const int64_t i0 = run * runs.rows_per_run, rows = min_of(runs.rows_per_run, s.rows - i0);
    const int64_t pixels = (rows - 1) * s.pitch + s.columns;
    const float* plane = s.planes + i0 * s.pitch;
    if (runs.direct) {
      sum_run(s, plane, pixels, s.out + i0 * s.out_row, s.out_m);
      continue;
    }
    sum_run(s, plane, pixels, scratch, runs.pixels);
    for (int64_t k = 0; k < s.m; k++)
      for (int64_t i = 0; i < rows; i++) {
        const float* from = scratch + k * runs.pixels + i * s.pitch;
        float* to = s.out + k * s.out_m + (i0 + i) * s.out_row;
        if (s.out_column == 1)
          memcpy(to, from, size_t(s.columns) * sizeof(float));
        else
          for (int64_t j = 0; j < s.columns; j++) to[j * s.out_column] = from[j];
      }
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

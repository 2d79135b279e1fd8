// Convolution on planes: images copied with their padding, so that every tap of any stride, dilation and padding is one
// offset.
//
// Rows are kept once per residue modulo the stride ("phase"): tap row r reads one phase, a fixed number of rows further
// down. Columns have copies, each from a place of its own on and in steps of its own: one per residue modulo the
// stride, or one per kernel column where loads shall be aligned. So a whole convolution runs at stride 1:
//
//   out[m][i][j] = bias[m] + sum_t a[m][t] * planes[offset[t] + i*pitch + j],   t over input channels and taps
#pragma once
#include "core/array.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// Place j of a copied line holds element first + j * step of the source line; zero where there is none.
struct Gather {
  int64_t first, step;
};

struct PlaneLayout {
  int64_t in_rows, in_columns;  // of the source
  int64_t columns;              // of the output: places at columns .. pitch-1 are zeros
  int64_t pitch;
  int64_t rows;  // in one plane: those of the output (or a block of it) and as many more as the largest shift
  int64_t phases, copies;
  const Gather* phase_rows;    // (phases)
  const Gather* copy_columns;  // (copies)

  int64_t channel() const { return phases * copies * rows * pitch; }  // floats per channel
  int64_t offset(int64_t phase, int64_t copy, int64_t shift) const {
    return ((phase * copies + copy) * rows + shift) * pitch;
  }
};

CONVCORE_INLINE int64_t pitch_of(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

int64_t fill_scratch(const PlaneLayout& layout);  // floats of scratch that fill_planes needs

// Copies rows row0 .. row0 + layout.rows - 1 of every phase of x (channels, in_rows, in_columns).
void fill_planes(const PlaneLayout& layout, int64_t channels, const float* x, int64_t row0, float* planes,
                 float* scratch);

// The same, faster, for copies of step 1, which are whole rows, shifted: any pitch from `columns` on. x lies in either
// order of memory, `stride` floats from pixel to pixel when it is channels-last. Stores up to kLanes floats past the
// end.
void fill_whole_rows(const PlaneLayout& layout, int64_t channels, const float* x, Layout x_layout, int64_t stride,
                     int64_t row0, float* planes);

// Taps that read one plane, each from the row below the one before.
struct TapRun {
  int64_t offset, taps;
};

//   out[m][i][j] = bias[m] + sum over runs and their taps u of a[t][m] * planes[offset + (i + u)*pitch + j],
//
// where t counts the taps of all runs.
struct PlanarSum {
  int64_t m;
  const float* a;       // (taps of all runs, m)
  const float* bias;    // (m) or null
  const float* planes;  // readable for kLanes floats past the end
  const TapRun* runs;
  int64_t run_count;
  bool single_taps;  // in every run
  int64_t rows, columns, pitch;
  float* out;  // element (m, i, j) at m*out_m + i*out_row + j*out_column
  int64_t out_m, out_row, out_column;
};

void planar_sum(const PlanarSum& sum);

}  // namespace convcore::cpu::CONVCORE_ISA

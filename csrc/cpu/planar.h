// Convolution on planes: images laid out so that every tap of any stride, dilation and padding is one offset.
//
// Along an axis with stride s, tap r of output i reads input i*s + r*d - pad. Split the padded input into its residues
// modulo s ("phases"): tap r reads phase (r*d) mod s at position i + (r*d) div s, the same shift for every output. With
// the phases stored as planes of one common pitch, a whole convolution is
//
//   out[m][i][j] = bias[m] + sum_{c,t} a[m][c][t] * plane_c[offset[t] + i*pitch + j]
//
// and runs at stride 1 over consecutive floats, whatever the parameters were. Copying an image into planes costs one
// load and one store a pixel, against kh*kw*c_out/stride^2 multiply-adds for it.
#pragma once
#include "core/window.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// One axis of the plane layout.
struct PhaseAxis {
  WindowAxis window;
  int64_t in, out;
  int64_t phases;  // distinct residues among the taps
  int64_t size;    // rows (or columns) of a plane

  PhaseAxis(const WindowAxis& w, int64_t in_, int64_t out_) : window(w), in(in_), out(out_) {
    phases = min_of(w.kernel, period());
    size = out + (w.kernel - 1) * w.dilation / w.stride;
  }
  int64_t phase_of_tap(int64_t r) const { return r % period(); }
  int64_t shift_of_tap(int64_t r) const { return r * window.dilation / window.stride; }
  // Input position of place `a` in phase `e`; may lie in the padding.
  int64_t input(int64_t e, int64_t a) const {
    return a * window.stride + e * window.dilation % window.stride - window.pad_before;
  }

 private:
  int64_t period() const {  // (r * dilation) mod stride repeats after stride / gcd(dilation, stride) taps
    int64_t a = window.dilation, b = window.stride;
    while (b) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    return window.stride / a;
  }
};

struct PlaneLayout {
  PhaseAxis h, w;
  int64_t pitch() const { return w.size; }
  int64_t phase_plane() const { return h.size * w.size; }
  int64_t channel() const { return h.phases * w.phases * phase_plane(); }  // floats per channel
  int64_t offset(int64_t r, int64_t s) const {
    return (h.phase_of_tap(r) * w.phases + w.phase_of_tap(s)) * phase_plane() + h.shift_of_tap(r) * pitch() +
           w.shift_of_tap(s);
  }
};

// Writes `channels` planes of x (channels, h_in, w_in), zeros in the padding.
void fill_planes(const PlaneLayout& layout, int64_t channels, const float* x, float* planes);

struct PlanarSum {
  int64_t m, channels, taps;
  const float* a;  // (m, channels, taps), rows `a_row` apart
  int64_t a_row;
  const float* bias;  // (m) or null
  const float* planes;
  int64_t plane_stride;    // floats from channel to channel
  const int64_t* offsets;  // (taps)
  int64_t rows, columns, pitch;
  float* out;  // element (m, i, j) at m*out_m + i*out_row + j*out_column; columns at distance 1 unless a stride scatters
  int64_t out_m, out_row, out_column;
};

constexpr int64_t kPlaneSlack = 128;  // floats that must be readable after the last plane: tiles read whole vectors
int64_t planar_scratch(const PlanarSum& sum);  // floats of scratch that planar_sum needs
void planar_sum(const PlanarSum& sum, float* scratch);

}  // namespace convcore::cpu::CONVCORE_ISA

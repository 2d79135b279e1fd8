// conv2d for few input channels and about one vector of output channels: x in either order of memory, y channels-last.
//
//   y[i][j][k..] = b[k..] + sum over c, r and q of planes[c][i*stride + r*dilation][j + q] * w[c][r][q][k..]
//
// With one vector of channels the tile of direct.cpp makes a broadcast for each FMA. Here the weights of a row of taps
// stay in registers while the pixels go by, so that a broadcast pixel meets all taps of the row: 3 taps x 16 pixels of
// sums take 18 broadcasts and 3 loads for 48 FMAs, 5 taps x 10 pixels 14 and 5 for 50.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/planes.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

// Pixels of a tile: its sums, the weights of a row of taps and a broadcast fill the registers. 16 sums hide the latency.
constexpr int most_pixels(int taps) {
  const int pixels = kRegisters - 1 - taps;
  return pixels < 16 ? pixels : 16;
}

// With more output channels the tile of direct.cpp, which shares a broadcast among vectors, is the faster one.
constexpr int64_t kMostOutputChannels = 16;

struct FewSum {
  int64_t c_in, kernel_rows;
  int64_t plane, tap_row;  // floats from channel to channel and from row of taps to row of taps
  const float* bias;       // of the first channel, or null
  int64_t lanes;           // channels of the vector
  int64_t out_pixel;       // floats from pixel to pixel of y
};

// P pixels from `x` on, W taps in a row. w: (c, r, q, lane).
template <int W, int P>
__attribute__((noinline)) void sum_pixels(const FewSum& s, const float* x, const float* w, float* out,
                                          const float* ahead) {
  Vec acc[P];
  const Vec start = s.bias ? load_partial(s.bias, s.lanes) : Vec{};
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) acc[p] = start;
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) __builtin_prefetch(ahead + p * s.out_pixel, 1);
  for (int64_t c = 0; c < s.c_in; c++, x += s.plane) {
    const float* row = x;
    for (int64_t r = 0; r < s.kernel_rows; r++, row += s.tap_row, w += W * kLanes) {
      Vec taps[W];
#pragma GCC unroll 8
      for (int q = 0; q < W; q++) taps[q] = load(w + q * kLanes);
#pragma GCC unroll 32
      for (int j = 0; j < P + W - 1; j++) {
        const Vec pixel = splat(row[j]);
#pragma GCC unroll 8
        for (int q = 0; q < W; q++)
          if (j - q >= 0 && j - q < P) acc[j - q] += pixel * taps[q];
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) store_partial(out + p * s.out_pixel, acc[p], s.lanes);
}

template <int W>
void sum_row(const FewSum& s, int64_t columns, const float* x, const float* w, float* out, const float* ahead) {
  constexpr int kMost = most_pixels(W);
  for (int64_t j = 0, pixels; j < columns; j += pixels) {
    pixels = next_tile(columns - j, kMost);
    const int64_t at = j * s.out_pixel;
    with_count<kMost>(pixels, [&](auto p) { sum_pixels<W, p.value>(s, x + j, w, out + at, ahead + at); });
  }
}

}  // namespace

void few_forward(const Conv2dShape& s, const float* x, Layout x_layout, const float* w, const float* b, float* y) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const bool row_of_taps = (ww.kernel == 3 || ww.kernel == 5 || ww.kernel == 7) && ww.stride == 1 && ww.dilation == 1;
  if (!row_of_taps || s.c_out > kMostOutputChannels) return direct_forward(s, x, x_layout, w, b, y);

  const int64_t terms = s.c_in * s.taps(), panels = pitch_of(s.c_out) / kLanes;
  const Buffer<float> packed(panels * terms * kLanes);  // (panel, c, r, q, lane)
  memset(packed.data, 0, size_t(panels * terms * kLanes) * sizeof(float));
  for (int64_t p = 0; p < panels; p++)
    transpose_matrix(min_of<int64_t>(kLanes, s.c_out - p * kLanes), terms, w + p * kLanes * terms, terms,
                     packed.data + p * terms * kLanes, kLanes);

  const Gather rows{-wh.pad_before, 1}, columns{-ww.pad_before, 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_in, layout.in_columns = s.w_in;
  layout.columns = layout.pitch = s.w_out + ww.kernel - 1;
  layout.phases = layout.copies = 1;
  layout.phase_rows = &rows, layout.copy_columns = &columns;
  const int64_t block_rows =
      rows_per_block(s.n, s.h_out, wh.extent() / wh.stride, s.c_in * wh.stride * layout.pitch);
  const int64_t blocks = (s.h_out + block_rows - 1) / block_rows;
  layout.rows = (block_rows - 1) * wh.stride + wh.extent();

  const int64_t pixel = x_layout == Layout::channels_last ? s.c_in : 1;
  const int64_t work = s.c_out * block_rows * s.w_out * terms / kLanes + s.c_in * layout.channel() / kLanes;
  parallel_for(s.n * blocks, work, [&](int64_t begin, int64_t end) {
    float* planes = workspace(kPlaneSlot, s.c_in * layout.channel() + kLanes);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, i0 = task % blocks * block_rows, i_end = min_of(s.h_out, i0 + block_rows);
      fill_whole_rows(layout, s.c_in, x + n * s.c_in * s.h_in * s.w_in, x_layout, pixel, i0 * wh.stride, planes);
      for (int64_t k = 0; k < s.c_out; k += kLanes) {
        const FewSum sum{s.c_in,          wh.kernel, layout.channel(), wh.dilation * layout.pitch,
                         b ? b + k : nullptr, min_of<int64_t>(kLanes, s.c_out - k), s.c_out};
        const float* weights = packed.data + k * terms;
        for (int64_t i = i0; i < i_end; i++) {
          const float* row = planes + (i - i0) * wh.stride * layout.pitch;
          float* out = y + (n * s.h_out + i) * s.w_out * s.c_out + k;
          const float* ahead = out + s.w_out * s.c_out;  // the next row
          if (ww.kernel == 3) sum_row<3>(sum, s.w_out, row, weights, out, ahead);
          if (ww.kernel == 5) sum_row<5>(sum, s.w_out, row, weights, out, ahead);
          if (ww.kernel == 7) sum_row<7>(sum, s.w_out, row, weights, out, ahead);
        }
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA

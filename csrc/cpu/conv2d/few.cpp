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

// Pixels of a row of a tile: its sums, the weights of a row of taps and a broadcast fill the registers. 16 sums hide
// the latency; with fewer pixels a tile has two rows.
constexpr int most_pixels(int taps) {
  const int pixels = kRegisters - 2 - taps;
  return pixels < 16 ? pixels : 16;
}
constexpr bool has_two_rows(int taps, int pixels) { return kRegisters >= 32 && 2 * pixels + taps + 2 <= kRegisters; }

// With more output channels the tile of direct.cpp, which shares a broadcast among vectors, is the faster one.
constexpr int64_t kMostOutputChannels = 16;

struct FewSum {
  int64_t c_in, kernel_rows;
  int64_t plane, tap_row;  // floats from channel to channel and from row of taps to row of taps
  int64_t x_row;           // floats between the pixels of one row of y and of the next
  const float* bias;       // of the first channel, or null
  int64_t lanes;           // channels of the vector
  int64_t out_row, out_pixel;
};

// R rows of P pixels from `x` on, W taps in a row. w: (c, r, q, lane). Fetches the lines of the rows of y below.
template <int W, int P, int R>
__attribute__((noinline)) void sum_pixels(const FewSum& s, const float* x, const float* w, float* out) {
  Vec acc[R][P];
  const Vec start = s.bias ? load_partial(s.bias, s.lanes) : Vec{};
#pragma GCC unroll 2
  for (int i = 0; i < R; i++)
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) {
      acc[i][p] = start;
      __builtin_prefetch(out + (R + i) * s.out_row + p * s.out_pixel, 1);
    }
  for (int64_t c = 0; c < s.c_in; c++, x += s.plane) {
    const float* row = x;
    for (int64_t r = 0; r < s.kernel_rows; r++, row += s.tap_row, w += W * kLanes) {
      Vec taps[W];
#pragma GCC unroll 8
      for (int q = 0; q < W; q++) taps[q] = load(w + q * kLanes);
#pragma GCC unroll 32
      for (int j = 0; j < P + W - 1; j++)
#pragma GCC unroll 2
        for (int i = 0; i < R; i++) {
          const Vec pixel = splat(row[i * s.x_row + j]);
#pragma GCC unroll 8
          for (int q = 0; q < W; q++)
            if (j - q >= 0 && j - q < P) acc[i][j - q] += pixel * taps[q];
        }
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < R; i++)
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) store_partial(out + i * s.out_row + p * s.out_pixel, acc[i][p], s.lanes);
}

template <int W>
void sum_rows(const FewSum& s, int64_t rows, int64_t columns, const float* x, const float* w, float* out) {
  constexpr int kMost = most_pixels(W);
  for (int64_t i = 0, height; i < rows; i += height) {
    height = 1;
    for (int64_t j = 0, pixels; j < columns; j += pixels) {
      pixels = next_tile(columns - j, kMost);
      with_count<kMost>(pixels, [&](auto p) {
        const float* from = x + i * s.x_row + j;
        float* to = out + i * s.out_row + j * s.out_pixel;
        if constexpr (has_two_rows(W, p.value)) {
          if (columns == p.value && i + 1 < rows) {
            height = 2;
            return sum_pixels<W, p.value, 2>(s, from, w, to);
          }
        }
        sum_pixels<W, p.value, 1>(s, from, w, to);
      });
    }
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

  // Without padding the images are their own planes.
  const bool in_place =
      x_layout == Layout::row_major && wh.pad_before + wh.pad_after + ww.pad_before + ww.pad_after == 0;
  const Gather rows{-wh.pad_before, 1}, columns{-ww.pad_before, 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_in, layout.in_columns = s.w_in;
  layout.columns = layout.pitch = s.w_out + ww.kernel - 1;
  layout.phases = layout.copies = 1;
  layout.phase_rows = &rows, layout.copy_columns = &columns;
  const int64_t block_rows = rows_per_block(s.n, s.h_out, wh.extent() / wh.stride, s.c_in * wh.stride * layout.pitch);
  const int64_t blocks = (s.h_out + block_rows - 1) / block_rows;
  layout.rows = in_place ? s.h_in : (block_rows - 1) * wh.stride + wh.extent();

  const int64_t pixel = x_layout == Layout::channels_last ? s.c_in : 1;
  const int64_t work = s.c_out * block_rows * s.w_out * terms / kLanes + s.c_in * layout.channel() / kLanes;
  parallel_for(s.n * blocks, work, [&](int64_t begin, int64_t end) {
    float* filled = in_place ? nullptr : workspace(kPlaneSlot, s.c_in * layout.channel() + kLanes);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, i0 = task % blocks * block_rows, count = min_of(block_rows, s.h_out - i0);
      const float* image = x + n * s.c_in * s.h_in * s.w_in;
      if (!in_place) fill_whole_rows(layout, s.c_in, image, x_layout, pixel, i0 * wh.stride, filled);
      const float* planes = in_place ? image + i0 * wh.stride * s.w_in : filled;
      for (int64_t k = 0; k < s.c_out; k += kLanes) {
        FewSum sum{};
        sum.c_in = s.c_in, sum.kernel_rows = wh.kernel;
        sum.plane = layout.channel(), sum.tap_row = wh.dilation * layout.pitch, sum.x_row = wh.stride * layout.pitch;
        sum.bias = b ? b + k : nullptr, sum.lanes = min_of<int64_t>(kLanes, s.c_out - k);
        sum.out_row = s.w_out * s.c_out, sum.out_pixel = s.c_out;
        const float* weights = packed.data + k * terms;
        float* out = y + (n * s.h_out + i0) * sum.out_row + k;
        if (ww.kernel == 3) sum_rows<3>(sum, count, s.w_out, planes, weights, out);
        if (ww.kernel == 5) sum_rows<5>(sum, count, s.w_out, planes, weights, out);
        if (ww.kernel == 7) sum_rows<7>(sum, count, s.w_out, planes, weights, out);
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA

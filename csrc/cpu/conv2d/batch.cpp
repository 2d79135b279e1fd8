#include "cpu/conv2d/batch.h"

#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int64_t kUnits = 8;             // pieces of work, for as many threads
constexpr int64_t kUnitFloats = 1 << 16;  // interleaved images of one piece: 256 KiB, a part of L2

int64_t groups_of(int64_t images) { return (images + kLanes - 1) / kLanes; }

// At least three quarters of the lanes hold an image.
bool fills_lanes(int64_t images) { return images > 0 && 4 * images >= 3 * kLanes * groups_of(images); }

void fill_zeros(float* to, int64_t vectors) {
  for (int64_t i = 0; i < vectors; i++) store(to + i * kLanes, Vec{});
}

// Rows of one piece: what fits, and few enough for kUnits pieces. A row is `row` vectors, `more` rows come on top.
int64_t rows_of_unit(int64_t images, int64_t rows, int64_t row, int64_t more) {
  const int64_t fit = kUnitFloats / kLanes / max_of<int64_t>(1, row) - more;
  const int64_t blocks = (kUnits + groups_of(images) - 1) / groups_of(images);
  return max_of<int64_t>(1, min_of(fit, (rows + blocks - 1) / blocks));
}

// Images in either order of memory, and their interleaving.
struct Images {
  const float* data;
  Layout layout;
  int64_t n, channels, rows, columns;

  // to[c][a][left + j][lane] = image n0 + lane, channel c, row i0 + a, column j, for rows that exist and j < count.
  // `to` has planes of `plane` and rows of `pitch` vectors. Lanes past the last image are left as they are.
  void interleave(int64_t n0, int64_t i0, int64_t row_count, int64_t count, int64_t left, int64_t plane, int64_t pitch,
                  float* to) const {
    const int64_t images = min_of<int64_t>(kLanes, n - n0), image = channels * rows * columns;
    const int64_t begin = max_of<int64_t>(0, -i0), end = min_of(row_count, rows - i0);
    // Rows that follow each other in both orders are turned as one.
    const bool joined = count == columns && pitch == columns;
    const int64_t step = joined ? max_of<int64_t>(1, end - begin) : 1;
    for (int64_t a = begin; a < end; a += step) {
      const int64_t pixels = joined ? (end - begin) * columns : count;
      float* row = to + (a * pitch + left) * kLanes;
      if (layout == Layout::channels_last) {
        const float* from = data + n0 * image + (i0 + a) * columns * channels;
        for (int64_t j = 0; j < pixels; j++)
          transpose_matrix(images, channels, from + j * channels, image, row + j * kLanes, plane * kLanes);
      } else {
        const float* from = data + n0 * image + (i0 + a) * columns;
        for (int64_t c = 0; c < channels; c++)
          transpose_matrix(images, pixels, from + c * rows * columns, image, row + c * plane * kLanes, kLanes);
      }
    }
  }
};

}  // namespace

// ---- backward: input ----------------------------------------------------------------------------------------------
//
// Row h of dx is a sum over the rows i of dy with i * stride + r * dilation = h + pad. Along the columns (stride and
// dilation 1) P pixels of dy meet the W taps of a row of M input channels: M * (P + W - 1) sums of neighbouring pixels
// of dx, to which every product belongs. 4 pixels, 5 taps, 3 channels: 24 sums, 4 pixels and a weight are 29 registers,
// 19 loads for 60 FMAs.

namespace {

constexpr int kMostPixels = kRegisters >= 32 ? 4 : 3;
constexpr int channels_of_tile(int taps) { return kRegisters < 32 ? 1 : taps > 5 ? 2 : 3; }

struct ScatterRow {  // one row of dx
  int64_t c_in, c_out;
  int64_t dy_plane;   // floats from channel to channel of dy
  int64_t out_plane;  // floats from channel to channel of the row of dx
};

// dx[m][p + q] += sum over k of dy[k][p] * w[k][m][q].
template <int W, int P, int M>
__attribute__((noinline)) void scatter_tile(const ScatterRow& s, const float* dy, const float* w, float* dx) {
  Vec acc[M][P + W - 1];
#pragma GCC unroll 4
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int j = 0; j < P + W - 1; j++) acc[m][j] = load(dx + m * s.out_plane + j * kLanes);
  for (int64_t k = 0; k < s.c_out; k++, dy += s.dy_plane, w += s.c_in * W) {
    Vec d[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) d[p] = load(dy + p * kLanes);
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
      for (int q = 0; q < W; q++) {
        const Vec tap = splat(w[m * W + q]);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) acc[m][p + q] += tap * d[p];
      }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; m++)
#pragma GCC unroll 16
    for (int j = 0; j < P + W - 1; j++) store(dx + m * s.out_plane + j * kLanes, acc[m][j]);
}

// All of a row of dy by one row of taps.
template <int W>
void scatter_row(const ScatterRow& s, int64_t columns, const float* dy, const float* w, float* dx) {
  for (int64_t m = 0, channels; m < s.c_in; m += channels) {
    channels = next_tile(s.c_in - m, channels_of_tile(W));
    for (int64_t j = 0, pixels; j < columns; j += pixels) {
      pixels = next_tile(columns - j, kMostPixels);
      with_count<channels_of_tile(W)>(channels, [&](auto c) {
        with_count<kMostPixels>(pixels, [&](auto p) {
          scatter_tile<W, p.value, c.value>(s, dy + j * kLanes, w + m * W, dx + m * s.out_plane + j * kLanes);
        });
      });
    }
  }
}

template <int W>
void backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* w, float* dx) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t width = s.w_out + W - 1;  // w_in and the padding
  const int64_t reach = (wh.extent() + wh.stride - 1) / wh.stride;
  const int64_t block_rows =
      rows_of_unit(s.n, s.h_in, (s.c_out * s.w_out + wh.stride - 1) / wh.stride, reach * wh.stride);
  const int64_t blocks = (s.h_in + block_rows - 1) / block_rows;
  const int64_t dy_rows = block_rows / wh.stride + reach + 1;  // that a block can need
  const Images images{dy, dy_layout, s.n, s.c_out, s.h_out, s.w_out};

  const Buffer<float> packed(s.c_out * s.c_in * s.taps());  // (r, k, c, q)
  for (int64_t k = 0; k < s.c_out; k++)
    for (int64_t c = 0; c < s.c_in; c++)
      for (int64_t r = 0; r < wh.kernel; r++)
        for (int64_t q = 0; q < W; q++)
          packed.data[((r * s.c_out + k) * s.c_in + c) * W + q] = w[(k * s.c_in + c) * s.taps() + r * W + q];

  const int64_t work = s.c_in * s.c_out * s.taps() * block_rows * s.w_out + 8 * s.c_out * dy_rows * s.w_out;
  parallel_for(groups_of(s.n) * blocks, work, [&](int64_t begin, int64_t end) {
    const int64_t plane = dy_rows * s.w_out;
    float* turned = workspace(kPlaneSlot, s.c_out * plane * kLanes);
    float* row = workspace(kGradientSlot, s.c_in * width * kLanes);
    const ScatterRow scatter{s.c_in, s.c_out, plane * kLanes, width * kLanes};
    for (int64_t task = begin; task < end; task++) {
      const int64_t n0 = task / blocks * kLanes, h0 = task % blocks * block_rows;
      const int64_t h_end = min_of(s.h_in, h0 + block_rows), count = min_of<int64_t>(kLanes, s.n - n0);
      const int64_t first = max_of<int64_t>(0, (h0 + wh.pad_before - wh.extent() + wh.stride) / wh.stride);
      if (count < kLanes) fill_zeros(turned, s.c_out * plane);
      images.interleave(n0, first, min_of(dy_rows, (h_end - 1 + wh.pad_before) / wh.stride + 1 - first), s.w_out, 0,
                        plane, s.w_out, turned);
      for (int64_t h = h0; h < h_end; h++) {
        fill_zeros(row, s.c_in * width);
        for (int64_t r = 0; r < wh.kernel; r++) {
          const int64_t at = h + wh.pad_before - r * wh.dilation, i = at / wh.stride;
          if (at < 0 || at % wh.stride != 0 || i >= s.h_out) continue;
          scatter_row<W>(scatter, s.w_out, turned + (i - first) * s.w_out * kLanes,
                         packed.data + r * s.c_out * s.c_in * W, row);
        }
        for (int64_t c = 0; c < s.c_in; c++) {
          float* out = dx + ((n0 * s.c_in + c) * s.h_in + h) * s.w_in;
          transpose_matrix(s.w_in, count, row + (c * width + ww.pad_before) * kLanes, kLanes, out,
                           s.c_in * s.h_in * s.w_in);
        }
      }
    }
  });
}

}  // namespace

bool batch_can_backward_input(const Conv2dShape& s) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  return s.groups == 1 && fills_lanes(s.n) && w.stride == 1 && w.dilation == 1 &&
         (w.kernel == 3 || w.kernel == 5 || w.kernel == 7) &&
         s.c_out * s.w_out * (h.extent() + h.stride) <= kUnitFloats / kLanes * 4;
}

void batch_backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* w, float* dx) {
  if (s.window.w.kernel == 3) return backward_input<3>(s, dy, dy_layout, w, dx);
  if (s.window.w.kernel == 5) return backward_input<5>(s, dy, dy_layout, w, dx);
  backward_input<7>(s, dy, dy_layout, w, dx);
}

// ---- backward: weight ---------------------------------------------------------------------------------------------
//
// A tile is some output channels times some taps: 6 x 4 sums of 10 loads for 24 FMAs. Sums stay vectors, a lane per
// image of a group, until all images are summed. A piece of work is a block of rows of a group of images; shards of the
// pieces sum into copies, which are added in order.

namespace {

constexpr int kSumRows = kRegisters >= 32 ? 6 : 3;  // 6 x 4 sums + 6 of dy + 1 of x = 31 registers,
constexpr int kSumTaps = kRegisters >= 32 ? 4 : 3;  // 3 x 3 + 3 + 1 = 13
constexpr int64_t kPassFloats = 8 << 10;  // rows of dy and x that all tiles read in turns: 32 KiB, two thirds of L1
constexpr int64_t kSumFloats = 1 << 16;   // sums of a shard: 256 KiB

struct PixelSum {
  int64_t rows, columns;
  const float* dy;
  int64_t dy_k, dy_row;  // floats from channel to channel, from row to row
  const float* x;
  const int64_t* offsets;   // of the terms in x
  int64_t x_row, x_column;  // floats from row to row and column to column of dy
  float* sums;              // (term, k, lane)
  int64_t sums_t;
};

template <int K, int T>
__attribute__((noinline)) void sum_pixel_tile(const PixelSum& s, int64_t k, int64_t t) {
  float* to = s.sums + t * s.sums_t + k * kLanes;
  Vec acc[K][T];
#pragma GCC unroll 8
  for (int i = 0; i < K; i++)
#pragma GCC unroll 8
    for (int j = 0; j < T; j++) acc[i][j] = load(to + j * s.sums_t + i * kLanes);
  for (int64_t row = 0; row < s.rows; row++) {
    const float* dy = s.dy + k * s.dy_k + row * s.dy_row;
    const float* x[T];
#pragma GCC unroll 8
    for (int j = 0; j < T; j++) x[j] = s.x + s.offsets[t + j] + row * s.x_row;
    int64_t column = 0;
    for (int64_t p = 0; p < s.columns; p++, dy += kLanes, column += s.x_column) {
      Vec d[K];
#pragma GCC unroll 8
      for (int i = 0; i < K; i++) d[i] = load(dy + i * s.dy_k);
#pragma GCC unroll 8
      for (int j = 0; j < T; j++) {
        const Vec v = load(x[j] + column);
#pragma GCC unroll 8
        for (int i = 0; i < K; i++) acc[i][j] += d[i] * v;
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < K; i++)
#pragma GCC unroll 8
    for (int j = 0; j < T; j++) store(to + j * s.sums_t + i * kLanes, acc[i][j]);
}

void sum_pixels(const PixelSum& s, int64_t c_out, int64_t terms) {
  for (int64_t t = 0, taps; t < terms; t += taps) {
    taps = next_tile(terms - t, kSumTaps);
    for (int64_t k = 0, rows; k < c_out; k += rows) {
      rows = next_tile(c_out - k, kSumRows);
      with_count<kSumRows>(rows, [&](auto r) {
        with_count<kSumTaps>(taps, [&](auto c) { sum_pixel_tile<r.value, c.value>(s, k, t); });
      });
    }
  }
}

// How the gradient is cut; a function of the shape alone.
struct BatchCuts {
  int64_t pitch;         // of x with its padding, vectors
  int64_t rows, blocks;  // of dy in a piece, pieces per group of images
  int64_t x_rows;        // of a piece
  int64_t pass_rows;     // of dy that all tiles read before the next rows
  int64_t pieces, shards;

  explicit BatchCuts(const Conv2dShape& s) {
    const WindowAxis &h = s.window.h, &w = s.window.w;
    pitch = (s.w_out - 1) * w.stride + w.extent();
    const int64_t row = s.c_out * s.w_out + s.c_in * pitch * h.stride;
    rows = min_of(s.h_out, rows_of_unit(s.n, s.h_out, row, h.extent() / h.stride));
    blocks = (s.h_out + rows - 1) / rows;
    x_rows = (rows - 1) * h.stride + h.extent();
    pass_rows = max_of<int64_t>(1, kPassFloats / kLanes / row);
    pieces = groups_of(s.n) * blocks;
    shards = min_of(kUnits, pieces);
  }
};

}  // namespace

bool batch_can_backward_weight(const Conv2dShape& s) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  const int64_t pitch = (s.w_out - 1) * w.stride + w.extent();
  return s.groups == 1 && fills_lanes(s.n) && s.c_out * s.c_in * s.taps() * kLanes <= kSumFloats &&
         s.c_out * s.w_out + s.c_in * pitch * (h.extent() + h.stride) <= kUnitFloats / kLanes * 4;
}

void batch_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const BatchCuts cuts(s);
  const int64_t terms = s.c_in * s.taps(), count = s.c_out * terms;
  const int64_t x_plane = cuts.x_rows * cuts.pitch, dy_plane = cuts.rows * s.w_out;
  const Buffer<int64_t> offsets(terms);
  for (int64_t t = 0; t < terms; t++) {
    const int64_t c = t / s.taps(), r = t % s.taps() / ww.kernel, q = t % ww.kernel;
    offsets.data[t] = (c * x_plane + r * wh.dilation * cuts.pitch + q * ww.dilation) * kLanes;
  }
  const Images dys{dy, Layout::row_major, s.n, s.c_out, s.h_out, s.w_out};
  const Images xs{x, Layout::row_major, s.n, s.c_in, s.h_in, s.w_in};
  const Buffer<float> sums(cuts.shards * count * kLanes);

  const int64_t work = s.n * s.h_out * s.w_out * count / kLanes / cuts.shards;
  parallel_for(cuts.shards, work, [&](int64_t begin, int64_t end) {
    float* turned_x = workspace(kPlaneSlot, s.c_in * x_plane * kLanes);
    float* turned_dy = workspace(kGradientSlot, s.c_out * dy_plane * kLanes);
    for (int64_t shard = begin; shard < end; shard++) {
      PixelSum sum{};
      sum.columns = s.w_out, sum.dy_k = dy_plane * kLanes, sum.dy_row = s.w_out * kLanes;
      sum.offsets = offsets.data;
      sum.x_row = wh.stride * cuts.pitch * kLanes, sum.x_column = ww.stride * kLanes;
      sum.sums = sums.data + shard * count * kLanes, sum.sums_t = s.c_out * kLanes;
      fill_zeros(sum.sums, count);
      for (int64_t piece = cuts.pieces * shard / cuts.shards; piece < cuts.pieces * (shard + 1) / cuts.shards;
           piece++) {
        const int64_t n0 = piece / cuts.blocks * kLanes, i0 = piece % cuts.blocks * cuts.rows;
        const int64_t rows = min_of(cuts.rows, s.h_out - i0);
        if (s.n - n0 < kLanes) fill_zeros(turned_dy, s.c_out * dy_plane);
        fill_zeros(turned_x, s.c_in * x_plane);
        dys.interleave(n0, i0, rows, s.w_out, 0, dy_plane, s.w_out, turned_dy);
        const int64_t left = min_of(ww.pad_before, cuts.pitch);
        xs.interleave(n0, i0 * wh.stride - wh.pad_before, cuts.x_rows, min_of(s.w_in, cuts.pitch - left), left, x_plane,
                      cuts.pitch, turned_x);
        for (int64_t i = 0; i < rows; i += cuts.pass_rows) {
          sum.rows = min_of(cuts.pass_rows, rows - i);
          sum.dy = turned_dy + i * sum.dy_row, sum.x = turned_x + i * sum.x_row;
          sum_pixels(sum, s.c_out, terms);
        }
      }
    }
  });
  for (int64_t t = 0; t < terms; t++)
    for (int64_t k = 0; k < s.c_out; k++) {
      const float* from = sums.data + (t * s.c_out + k) * kLanes;
      Vec total = load(from);
      for (int64_t shard = 1; shard < cuts.shards; shard++) total += load(from + shard * count * kLanes);
      dw[k * terms + t] = sum(total);
    }
}

}  // namespace convcore::cpu::CONVCORE_ISA

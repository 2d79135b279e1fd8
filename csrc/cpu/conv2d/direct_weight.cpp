// dw[r,s][c][k] = sum over images and pixels of x[i*stride + r*dilation - pad][j*stride + ...][c] * dy[i][j][k].
//
// Lanes are output channels. A register tile is some input channels of one tap times some vectors of output channels
// (weight_shards.h); it runs over the pixels of a block of rows of dy. The rows of x that a block needs are copied with
// their padding, so that there are no edges in the loop: one load and one store per vector against kh * kw * c_out
// FMAs. They are copied as pixels of kPixel channels, and dy as pixels of the channels of one tile: pixels of many
// channels would lie a power of two apart, in few sets of L1. A block is summed from zero before it is added to the
// gradient of its shard.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/weight_shards.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int64_t kRange = 64;             // input channels copied at once,
constexpr int64_t kWideRange = 256;        // or, where one tap does little with the dy that is copied for each range
constexpr int64_t kPixel = 16;             // channels of a copied pixel of x, on every instruction set
constexpr int64_t kPixelFloats = 8 << 10;  // of dy in a block and one tile: 32 KiB, which stay in L1
constexpr int64_t kCopyFloats = 64 << 10;  // of x in a block: 256 KiB, a part of L2
constexpr int64_t kTasks = 8;
constexpr int64_t kShardBlocks = 4;       // at least so many per shard
constexpr int64_t kPartFloats = 4 << 20;  // all partial gradients together: 16 MiB

// How a gradient is cut; a function of the shape alone.
struct Cuts {
  int64_t c_ranges, c_size;    // ranges of input channels, whole vectors
  int64_t columns;             // of x with its padding
  int64_t rows, images;        // of dy in a block: all rows of some images, or some rows of one
  int64_t row_blocks, blocks;  // per image, in all
  int64_t shards;

  int64_t x_rows(const Conv2dShape& s) const { return (rows - 1) * s.window.h.stride + s.window.h.extent(); }

  explicit Cuts(const Conv2dShape& s) : Cuts(s, kWideRange) {
    if (s.taps() > 1 || c_ranges * shards < kTasks) *this = Cuts(s, kRange);
  }

 private:
  Cuts(const Conv2dShape& s, int64_t range) {
    c_ranges = ceil_div(s.c_in, range);
    c_size = whole_vectors(ceil_div(s.c_in, c_ranges));
    columns = (s.w_out - 1) * s.window.w.stride + s.window.w.extent();
    const int64_t x_row = columns * c_size, extent = s.window.h.extent();
    const int64_t tile = min_of<int64_t>(kMaxWeightVecs * kLanes, whole_vectors(s.c_out));
    const int64_t fit = min_of(kPixelFloats / (s.w_out * tile), (kCopyFloats / x_row - extent) / s.window.h.stride + 1);
    row_blocks = ceil_div(s.h_out, max_of<int64_t>(1, min_of(s.h_out, fit)));
    rows = ceil_div(s.h_out, row_blocks);
    row_blocks = ceil_div(s.h_out, rows);
    const int64_t most = min_of(kPixelFloats / (s.h_out * s.w_out * tile), kCopyFloats / (x_rows(s) * x_row));
    images = row_blocks > 1 ? 1 : max_of<int64_t>(1, most);
    blocks = row_blocks * ceil_div(s.n, images);
    const int64_t dw_floats = s.taps() * s.c_in * whole_vectors(s.c_out);
    shards = min_of(min_of(ceil_div(kTasks, c_ranges), blocks / kShardBlocks), kPartFloats / dw_floats);
    shards = max_of<int64_t>(1, shards);
  }
};

struct Block {  // pixels of dy and the x under them
  int64_t images, rows, columns;
  const float* x;  // of the tap (0, 0); floats from image to image, row to row, column to column of dy
  int64_t x_image, x_row, x_column, x_channels;  // the last: from kPixel channels to the next
  const float* dy;
  int64_t dy_image, dy_row, dy_column;
};

// to[c][k] (+)= sum over the pixels of x[c] * dy[k], for channels c < c_count (a multiple of the tile's rows).
template <int V>
__attribute__((noinline)) void add_tap(const Block& b, int64_t c_count, int64_t c_valid, float* to, int64_t to_row,
                                       bool first) {
  constexpr int R = weight_rows(V);
  for (int64_t c = 0; c < c_count; c += R) {
    Vec acc[R][V] = {};
    for (int64_t n = 0; n < b.images; n++)
      for (int64_t i = 0; i < b.rows; i++) {
        const float* x = b.x + c / kPixel * b.x_channels + c % kPixel + n * b.x_image + i * b.x_row;
        const float* dy = b.dy + n * b.dy_image + i * b.dy_row;
#pragma GCC unroll 4
        for (int64_t j = 0; j < b.columns; j++, x += b.x_column, dy += b.dy_column) {
          Vec d[V];
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) d[v] = load(dy + v * kLanes);
#pragma GCC unroll 16
          for (int r = 0; r < R; r++) {
            const Vec a = splat(x[r]);
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) acc[r][v] += a * d[v];
          }
        }
      }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      if (c + r >= c_valid) break;
      float* row = to + (c + r) * to_row;
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        float* at = row + v * kLanes;
        store(at, first ? acc[r][v] : load(at) + acc[r][v]);
      }
    }
  }
}

// The three taps of a row at once, for one vector of output channels, neighbouring taps and pixels (stride and dilation
// 1), at least two columns: each float of x that is broadcast meets the three pixels of dy it belongs to, 9 loads for
// 24 FMAs where add_tap needs 17 for 16. 24 sums, 3 vectors of dy, 1 of x: 28 registers.
constexpr bool kHasRowKernel = kRegisters >= 32;
constexpr int kRowTaps = 3, kRowChannels = kLanes < 8 ? kLanes : 8;

__attribute__((noinline)) void add_row_of_taps(const Block& b, int64_t c_count, int64_t c_valid, float* to,
                                               int64_t to_tap, int64_t to_row, bool first) {
  constexpr int T = kRowTaps, R = kRowChannels;
  for (int64_t c = 0; c < c_count; c += R) {
    Vec acc[T][R] = {};
    for (int64_t n = 0; n < b.images; n++)
      for (int64_t i = 0; i < b.rows; i++) {
        const float* x = b.x + c / kPixel * b.x_channels + c % kPixel + n * b.x_image + i * b.x_row;
        const float* dy = b.dy + n * b.dy_image + i * b.dy_row;
        Vec d[T];  // d[t]: the pixel of dy that column of x meets at tap t
        const auto column = [&](int first_tap, int last_tap) __attribute__((always_inline)) {
#pragma GCC unroll 8
          for (int r = 0; r < R; r++) {
            const Vec a = splat(x[r]);
#pragma GCC unroll 3
            for (int t = first_tap; t <= last_tap; t++) acc[t][r] += a * d[t];
          }
          x += b.x_column;
          d[2] = d[1];
          d[1] = d[0];
        };
        d[0] = load(dy);
        column(0, 0);
        d[0] = load(dy + b.dy_column);
        column(0, 1);
        dy += 2 * b.dy_column;
#pragma GCC unroll 3
        for (int64_t j = 2; j < b.columns; j++, dy += b.dy_column) {
          d[0] = load(dy);
          column(0, 2);
        }
        column(1, 2);
        column(2, 2);
      }
#pragma GCC unroll 3
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        if (c + r >= c_valid) break;
        float* at = to + t * to_tap + (c + r) * to_row;
        store(at, first ? acc[t][r] : load(at) + acc[t][r]);
      }
  }
}

void fill_zeros(float* to, int64_t floats) {
  for (int64_t i = 0; i < floats; i += kLanes) store(to + i, Vec{});
}

// The first `channels` channels of pixels `step` floats apart become pixels `to_step` apart, padded with zeros to whole
// vectors.
void copy_pixels(const float* from, int64_t pixels, int64_t step, int64_t channels, float* to, int64_t to_step) {
  if (channels % kLanes == 0) {
    for (int64_t p = 0; p < pixels; p++, from += step, to += to_step)
      for (int64_t c = 0; c < channels; c += kLanes) store(to + c, load(from + c));
    return;
  }
  for (int64_t p = 0; p < pixels; p++, from += step, to += to_step)
    for (int64_t c = 0; c < channels; c += kLanes)
      store(to + c, load_partial(from + c, min_of<int64_t>(kLanes, channels - c)));
}

struct Task {
  const Conv2dShape& s;
  const Cuts& cuts;
  const float *dy, *x;
  int64_t c_begin, c_end;

  // Rows of x with zeros where the padding is: for each kPixel of the channels c_begin .. c_end - 1 a plane, `plane`
  // floats after the last one.
  void copy_rows(int64_t n, int64_t first_row, int64_t rows, float* to, int64_t plane) const {
    const int64_t left = s.window.w.pad_before;
    const int64_t begin = min_of(left, cuts.columns), end = max_of(begin, min_of(cuts.columns, left + s.w_in));
    for (int64_t i = 0; i < rows; i++, to += cuts.columns * kPixel) {
      const int64_t h = first_row + i;
      const bool inside = h >= 0 && h < s.h_in;
      const float* from = x + (n * s.h_in + (inside ? h : 0)) * s.w_in * s.c_in;
      float* row = to;
      for (int64_t c = c_begin; c < c_end; c += kPixel, row += plane) {
        fill_zeros(row, (inside ? begin : cuts.columns) * kPixel);
        if (!inside) continue;
        copy_pixels(from + c, end - begin, s.c_in, min_of(kPixel, c_end - c), row + begin * kPixel, kPixel);
        fill_zeros(row + end * kPixel, (cuts.columns - end) * kPixel);
      }
    }
  }

  bool row_kernel_applies() const {
    const WindowAxis& w = s.window.w;
    return w.kernel == kRowTaps && w.stride == 1 && w.dilation == 1 && s.w_out >= 2;
  }

  void run(int64_t block_begin, int64_t block_end, const WeightParts& parts, int64_t shard) const {
    const int64_t channels = whole_vectors(c_end - c_begin), k_channels = whole_vectors(s.c_out);
    const int64_t x_row = cuts.columns * kPixel, x_image = cuts.x_rows(s) * x_row, plane = cuts.images * x_image;
    float* x_copy = workspace(kPlaneSlot, ceil_div(channels, kPixel) * plane);
    // Where one tile takes all channels, dy is read in its place.
    const bool copies_dy = s.c_out != k_channels || k_channels > kMaxWeightVecs * kLanes;
    float* dy_copy =
        copies_dy ? workspace(kGradientSlot, cuts.images * cuts.rows * s.w_out * kMaxWeightVecs * kLanes) : nullptr;

    for (int64_t block = block_begin; block < block_end; block++) {
      const int64_t n = block / cuts.row_blocks * cuts.images, i = block % cuts.row_blocks * cuts.rows;
      Block b{};
      b.images = min_of(cuts.images, s.n - n), b.rows = min_of(cuts.rows, s.h_out - i), b.columns = s.w_out;
      b.x_image = x_image, b.x_row = s.window.h.stride * x_row, b.x_column = s.window.w.stride * kPixel;
      b.x_channels = plane;
      for (int64_t m = 0; m < b.images; m++)
        copy_rows(n + m, i * s.window.h.stride - s.window.h.pad_before,
                  (b.rows - 1) * s.window.h.stride + s.window.h.extent(), x_copy + m * x_image, plane);
      // The rows of a block are those of one image, or all of several: its pixels lie one behind the other.
      const float* block_dy = dy + (n * s.h_out + i) * s.w_out * s.c_out;
      for (int64_t k = 0; k < k_channels;)
        k += kLanes * with_weight_vecs((k_channels - k) / kLanes, [&](auto vecs) {
               b.dy = block_dy, b.dy_column = vecs.value * kLanes;
               b.dy_row = s.w_out * b.dy_column, b.dy_image = s.h_out * b.dy_row;
               if (copies_dy) {
                 copy_pixels(block_dy + k, b.images * b.rows * s.w_out, s.c_out, min_of(s.c_out - k, b.dy_column),
                             dy_copy, b.dy_column);
                 b.dy = dy_copy;
               }
               if (kHasRowKernel && vecs.value == 1 && row_kernel_applies()) {
                 for (int64_t r = 0; r < s.window.h.kernel; r++) {
                   b.x = x_copy + r * s.window.h.dilation * x_row;
                   add_row_of_taps(b, channels, c_end - c_begin, parts.at(shard, r * kRowTaps, c_begin) + k,
                                   s.c_in * parts.row(), parts.row(), block == block_begin);
                 }
                 return;
               }
               for (int64_t tap = 0; tap < s.taps(); tap++) {
                 const int64_t r = tap / s.window.w.kernel, q = tap % s.window.w.kernel;
                 b.x = x_copy + r * s.window.h.dilation * x_row + q * s.window.w.dilation * kPixel;
                 add_tap<vecs.value>(b, channels, c_end - c_begin, parts.at(shard, tap, c_begin) + k, parts.row(),
                                     block == block_begin);
               }
             });
    }
  }
};

}  // namespace

void direct_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  if (s.n == 0) {
    memset(dw, 0, size_t(s.c_out * s.c_in * s.taps()) * sizeof(float));
    return;
  }
  const Cuts cuts(s);
  WeightParts parts{nullptr, cuts.shards, s.taps(), s.c_in, s.c_out};
  const Buffer<float> buffer(cuts.shards * parts.part());
  parts.data = buffer.data;

  const int64_t work = s.n * s.h_out * s.w_out * s.taps() * cuts.c_size * parts.row() / kLanes / cuts.shards;
  parallel_for(cuts.shards * cuts.c_ranges, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t shard = i / cuts.c_ranges, c = i % cuts.c_ranges * cuts.c_size;
      const Task task{s, cuts, dy, x, c, min_of(s.c_in, c + cuts.c_size)};
      task.run(cuts.blocks * shard / cuts.shards, cuts.blocks * (shard + 1) / cuts.shards, parts, shard);
    }
  });
  sum_weight_parts(parts, dw);
}

}  // namespace convcore::cpu::CONVCORE_ISA

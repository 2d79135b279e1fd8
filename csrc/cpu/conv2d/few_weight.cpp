// dw[c][r,q][k] = sum over images and pixels of x[c][i*stride + r*dilation - pad][j*stride + ...] * dy[i][j][k], for
// few input channels: x row-major, dy channels-last, lanes are output channels.
//
// With few input channels the taps take the place that direct_weight.cpp gives to the channels: a register tile is some
// of the c_in * kh * kw terms times some vectors of output channels. A float of x is broadcast from a padded row, where
// the terms of one pixel differ by constant offsets, and the pixels of a row follow each other `stride` floats apart.
//
// At stride 1 and one vector of output channels a column of x meets kw neighbouring pixels of dy, which are kept in
// registers: 3 x 3 x 3 taps are 27 sums, 9 broadcasts and one load of dy. Otherwise a tile is 24 sums: 6 terms x 4
// vectors of 10 loads, 8 x 3 of 11, 12 x 2 of 14.
//
// A block of rows of dy, with the rows of x under it, is summed from zero and then added to the gradient of its shard.
// The gradient of the bias is summed block by block on the way: dy is read from memory once.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/pixel_sum.h"
#include "cpu/conv2d/weight_shards.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int64_t kBlock = 16 << 10;  // floats of x and dy of a block: 64 KiB, read from L1 and L2
constexpr int64_t kShardCount = 8;
constexpr int64_t kShardBlocks = 2;       // of each shard, where there are enough images
constexpr int64_t kPartFloats = 4 << 20;  // all partial gradients together: 16 MiB

constexpr int kMostTerms = 12;  // an address each, in integer registers
constexpr int terms_of_tile(int vecs) {
  const int terms = kTileRows * kTileVecs / vecs;
  return terms < kMostTerms ? terms : kMostTerms;
}

// Rows of x in a tile that holds `taps` sums for each, `taps` pixels of dy and one broadcast.
constexpr int rows_of_tile(int taps) { return (kRegisters - 1 - taps) / taps; }

// How a gradient is cut; a function of the shape alone.
struct Cuts {
  bool in_place;               // x has no padding: its rows are read where they are
  int64_t pitch;               // of the rows of x with their padding
  int64_t rows, images;        // of dy in a block: all rows of some images, or some rows of one
  int64_t x_rows, plane_rows;  // that a block needs, that a plane of x has
  int64_t row_blocks, blocks;  // per image, in all
  int64_t shards;

  explicit Cuts(const Conv2dShape& s) {
    const WindowAxis &h = s.window.h, &w = s.window.w;
    in_place = h.pad_before + h.pad_after + w.pad_before + w.pad_after == 0;
    pitch = in_place ? s.w_in : (s.w_out - 1) * w.stride + w.extent();
    const int64_t dy_row = s.w_out * whole_vectors(s.c_out), x_row = s.c_in * pitch;
    const int64_t fit = (kBlock - (h.extent() - h.stride) * x_row) / (x_row * h.stride + dy_row);
    row_blocks = ceil_div(s.h_out, max_of<int64_t>(1, min_of(s.h_out, fit)));
    rows = ceil_div(s.h_out, row_blocks);
    row_blocks = ceil_div(s.h_out, rows);
    x_rows = (rows - 1) * h.stride + h.extent();
    const int64_t most = max_of<int64_t>(1, kBlock / (x_rows * x_row + s.h_out * dy_row));
    images = row_blocks > 1 ? 1 : min_of(most, ceil_div(s.n, kShardBlocks * kShardCount));
    blocks = row_blocks * ceil_div(s.n, images);
    plane_rows = in_place ? s.h_in : x_rows;
    const int64_t dw_floats = s.c_in * s.taps() * whole_vectors(s.c_out);
    shards = max_of<int64_t>(1, min_of(min_of(kShardCount, blocks), kPartFloats / max_of<int64_t>(1, dw_floats)));
  }
};

struct Block {  // pixels of dy and the x under them
  int64_t images, rows, columns;
  const float* x;  // of the tap (0, 0); floats from image to image, row to row, column to column of dy
  int64_t x_image, x_row, x_column;
  const float* dy;
  int64_t dy_image, dy_row, dy_column;
  int64_t last;  // channels in the last vector of the tile
  // Each pixel of a tile prefetches one line of the next block's dy: the tiles of a block share its lines.
  const float* ahead;
  int64_t ahead_step;  // floats from pixel to pixel

  int64_t pixels() const { return images * rows * columns; }
};

// dy[v] of one pixel. The last vector may end with the channels.
template <int V>
CONVCORE_INLINE void load_pixel(const float* dy, int64_t last, Vec (&d)[V]) {
#pragma GCC unroll 4
  for (int v = 0; v < V - 1; v++) d[v] = load(dy + v * kLanes);
  d[V - 1] = load_partial(dy + (V - 1) * kLanes, last);
}

CONVCORE_INLINE void add(float* to, Vec sum, bool first) { store(to, first ? sum : load(to) + sum); }

// to[t][v] (+)= sum over the pixels of x[offsets[t]] * dy[v].
template <int T, int V>
__attribute__((noinline)) void add_terms(const Block& b, const int64_t* offsets, float* const* to, bool first) {
  Vec acc[T][V] = {};
  const float* ahead = b.ahead;
  for (int64_t n = 0; n < b.images; n++)
    for (int64_t i = 0; i < b.rows; i++) {
      const float *row = b.x + n * b.x_image + i * b.x_row, *dy = b.dy + n * b.dy_image + i * b.dy_row;
      const float* x[T];
#pragma GCC unroll 16
      for (int t = 0; t < T; t++) x[t] = row + offsets[t];
      int64_t column = 0;
      for (int64_t j = 0; j < b.columns; j++, column += b.x_column, dy += b.dy_column) {
        Vec d[V];
        load_pixel(dy, b.last, d);
        __builtin_prefetch(ahead);
        ahead += b.ahead_step;
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
          const Vec a = splat(x[t][column]);
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) acc[t][v] += a * d[v];
        }
      }
    }
#pragma GCC unroll 16
  for (int t = 0; t < T; t++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) add(to[t] + v * kLanes, acc[t][v], first);
}

// The W taps of R rows of x at once, for one vector of output channels, neighbouring taps and pixels (stride and
// dilation 1), at least W - 1 columns. to[t * W + q]: tap q of row t.
template <int R, int W>
__attribute__((noinline)) void add_rows(const Block& b, const int64_t* offsets, float* const* to, bool first) {
  Vec acc[R][W] = {};
  const float* ahead = b.ahead;
  for (int64_t n = 0; n < b.images; n++)
    for (int64_t i = 0; i < b.rows; i++) {
      const float *row = b.x + n * b.x_image + i * b.x_row, *dy = b.dy + n * b.dy_image + i * b.dy_row;
      const float* x[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) x[r] = row + offsets[r];
      Vec d[W];  // d[q]: the pixel of dy that a column of x meets at tap q
      const auto column = [&](int64_t j, int first_tap, int last_tap) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
          const Vec a = splat(x[r][j]);
#pragma GCC unroll 8
          for (int q = first_tap; q <= last_tap; q++) acc[r][q] += a * d[q];
        }
      };
      const auto next_pixel = [&](int64_t j) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int q = W - 1; q > 0; q--) d[q] = d[q - 1];
        d[0] = load_partial(dy + j * b.dy_column, b.last);
        __builtin_prefetch(ahead);
        ahead += b.ahead_step;
      };
#pragma GCC unroll 8
      for (int j = 0; j < W - 1; j++) {
        next_pixel(j);
        column(j, 0, j);
      }
      for (int64_t j = W - 1; j < b.columns; j++) {
        next_pixel(j);
        column(j, 0, W - 1);
      }
#pragma GCC unroll 8
      for (int q = 1; q < W; q++) {
#pragma GCC unroll 8
        for (int p = W - 1; p > 0; p--) d[p] = d[p - 1];
        column(b.columns + q - 1, q, W - 1);
      }
    }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int q = 0; q < W; q++) add(to[r * W + q], acc[r][q], first);
}

struct Task {
  const Conv2dShape& s;
  const Cuts& cuts;
  const float *dy, *x;
  const int64_t* offsets;  // of the terms (c, r, q) in the copy of x
  double* bias;            // (shards, c_out): sums of dy; or null

  // The rows of x that a block needs, of all channels, with zeros where the padding is.
  void copy_rows(int64_t n, int64_t first_row, float* to) const {
    const int64_t left = min_of(s.window.w.pad_before, cuts.pitch), end = min_of(cuts.pitch, left + s.w_in);
    for (int64_t c = 0; c < s.c_in; c++)
      for (int64_t i = 0; i < cuts.x_rows; i++, to += cuts.pitch) {
        const int64_t h = first_row + i;
        if (h < 0 || h >= s.h_in) {
          memset(to, 0, size_t(cuts.pitch) * sizeof(float));
          continue;
        }
        const float* from = x + ((n * s.c_in + c) * s.h_in + h) * s.w_in;
        for (int64_t j = 0; j < left; j++) to[j] = 0;
        int64_t j = left;
        for (; j + kLanes <= end; j += kLanes) store(to + j, load(from + j - left));
        if (j < end) store_partial(to + j, load_partial(from + j - left, end - j), end - j);
        for (j = end; j < cuts.pitch; j++) to[j] = 0;
      }
  }

  template <int W>
  void add_all_rows(Block& b, const WeightParts& parts, int64_t shard, int64_t k, bool first) const {
    constexpr int kMost = rows_of_tile(W);
    const int64_t rows = s.c_in * s.window.h.kernel;
    b.ahead_step = ahead_step(ceil_div(rows, kMost));
    for (int64_t row = 0, count; row < rows; row += count) {
      count = next_tile(rows - row, kMost);
      int64_t starts[kMost];
      float* to[kMost * W];
      for (int64_t r = 0; r < count; r++) starts[r] = offsets[(row + r) * W];
      for (int64_t t = 0; t < count * W; t++) to[t] = part(parts, shard, row * W + t) + k;
      with_count<kMost>(count, [&](auto r) { add_rows<r.value, W>(b, starts, to, first); });
      b.ahead += b.pixels() * b.ahead_step;
    }
  }

  template <int V>
  void add_all_terms(Block& b, const WeightParts& parts, int64_t shard, int64_t k, bool first) const {
    constexpr int kMost = terms_of_tile(V);
    const int64_t terms = s.c_in * s.taps();
    b.ahead_step = ahead_step(ceil_div(terms, kMost));
    for (int64_t t = 0, count; t < terms; t += count) {
      count = next_tile(terms - t, kMost);
      float* to[kMost];
      for (int64_t i = 0; i < count; i++) to[i] = part(parts, shard, t + i) + k;
      with_count<kMost>(count, [&](auto n) { add_terms<n.value, V>(b, offsets + t, to, first); });
      b.ahead += b.pixels() * b.ahead_step;
    }
  }

  int64_t ahead_step(int64_t tiles) const {
    return ceil_div(s.c_out, max_of<int64_t>(1, tiles) * ceil_div(ceil_div(s.c_out, kLanes), kTileVecs));
  }

  float* part(const WeightParts& parts, int64_t shard, int64_t term) const {
    return parts.at(shard, term % s.taps(), term / s.taps());
  }

  bool rows_apply() const {
    const WindowAxis& w = s.window.w;
    return kRegisters >= 32 && w.stride == 1 && w.dilation == 1 && s.w_out >= w.kernel - 1;
  }

  void add_block(Block& b, int vecs, const WeightParts& parts, int64_t shard, int64_t k, bool first) const {
    const int64_t kernel = s.window.w.kernel;
    if (vecs == 1 && rows_apply()) {
      if (kernel == 3) return add_all_rows<3>(b, parts, shard, k, first);
      if (kernel == 5) return add_all_rows<5>(b, parts, shard, k, first);
      if (kernel == 7) return add_all_rows<7>(b, parts, shard, k, first);
    }
    with_count<kTileVecs>(vecs, [&](auto v) { add_all_terms<v.value>(b, parts, shard, k, first); });
  }

  void run(int64_t block_begin, int64_t block_end, const WeightParts& parts, int64_t shard) const {
    const int64_t x_image = s.c_in * cuts.plane_rows * cuts.pitch;
    float* x_copy = cuts.in_place ? nullptr : workspace(kPlaneSlot, cuts.images * x_image);
    for (int64_t block = block_begin; block < block_end; block++) {
      const int64_t n = block / cuts.row_blocks * cuts.images, i = block % cuts.row_blocks * cuts.rows;
      Block b{};
      b.images = min_of(cuts.images, s.n - n), b.rows = min_of(cuts.rows, s.h_out - i), b.columns = s.w_out;
      b.x = cuts.in_place ? x + n * x_image + i * s.window.h.stride * s.w_in : x_copy;
      b.x_image = x_image, b.x_row = s.window.h.stride * cuts.pitch, b.x_column = s.window.w.stride;
      b.dy_column = s.c_out, b.dy_row = s.w_out * s.c_out, b.dy_image = s.h_out * b.dy_row;
      for (int64_t m = 0; m < b.images && !cuts.in_place; m++)
        copy_rows(n + m, i * s.window.h.stride - s.window.h.pad_before, x_copy + m * x_image);
      const float* block_dy = dy + (n * s.h_out + i) * b.dy_row;
      if (bias) add_pixels(block_dy, b.pixels(), s.c_out, bias + shard * s.c_out);
      b.ahead = block_dy + b.pixels() * s.c_out;
      for (int64_t k = 0, vecs; k < s.c_out; k += vecs * kLanes) {
        vecs = next_tile(ceil_div(s.c_out - k, kLanes), kTileVecs);
        b.dy = block_dy + k;
        b.last = min_of<int64_t>(kLanes, s.c_out - k - (vecs - 1) * kLanes);
        add_block(b, int(vecs), parts, shard, k, block == block_begin);
      }
    }
  }
};

}  // namespace

void few_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw, float* db) {
  const int64_t terms = s.c_in * s.taps();
  if (s.n == 0) {
    memset(dw, 0, size_t(s.c_out * terms) * sizeof(float));
    if (db) memset(db, 0, size_t(s.c_out) * sizeof(float));
    return;
  }
  const Cuts cuts(s);
  WeightParts parts{nullptr, cuts.shards, s.taps(), s.c_in, s.c_out};
  const Buffer<float> buffer(cuts.shards * parts.part());
  parts.data = buffer.data;
  const Buffer<int64_t> offsets(terms);
  for (int64_t t = 0; t < terms; t++) {
    const int64_t c = t / s.taps(), r = t % s.taps() / s.window.w.kernel, q = t % s.window.w.kernel;
    offsets.data[t] = (c * cuts.plane_rows + r * s.window.h.dilation) * cuts.pitch + q * s.window.w.dilation;
  }

  const Buffer<double> bias(cuts.shards * s.c_out);
  for (int64_t i = 0; i < cuts.shards * s.c_out; i++) bias.data[i] = 0;

  const Task task{s, cuts, dy, x, offsets.data, db ? bias.data : nullptr};
  const int64_t work = s.n * s.h_out * s.w_out * terms * parts.row() / kLanes / cuts.shards;
  parallel_for(cuts.shards, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      task.run(cuts.blocks * i / cuts.shards, cuts.blocks * (i + 1) / cuts.shards, parts, i);
  });
  sum_weight_parts(parts, dw);
  for (int64_t k = 0; db && k < s.c_out; k++) {
    double total = 0;
    for (int64_t shard = 0; shard < cuts.shards; shard++) total += bias.data[shard * s.c_out + k];
    db[k] = float(total);
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

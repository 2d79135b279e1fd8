// dw = sum over tiles of A^T [(B^T x B) . (G dy G^T)] A, with 4x4 tiles of dy, the 6x6 patches of x under them, and the
// interpolation points 0, +-2/3, +-4/3, infinity (S. Winograd, "Arithmetic Complexity of Computations", 1980; A. Lavin,
// S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The textbook's points 0, +-1, +-2 cost the same
// and have three times the error.
//
// A task is a shard of the tiles, a range of input and a range of output channels. It walks through its tiles in
// blocks: transforms the patches (V) and the tiles (Z), then for each of the 36 positions adds the product of V and Z,
// summed over the block, to the task's sums. The inverse transform runs once, at the end of the task. V, Z and the sums
// stay in L2.
#include "cpu/conv2d/winograd_weight.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/conv2d/weight_shards.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kOut = 4, kIn = 6, kTaps = 3;  // along an axis: of a tile of dy, of its patch of x, of the filter
constexpr int kPositions = kIn * kIn;

#ifndef TUNE_RANGE
#define TUNE_RANGE 64
#define TUNE_TILES 64
#define TUNE_BLOCK (36*32*128)
#endif
constexpr int64_t kRange = TUNE_RANGE;           // channels of a task, at most: 36 * 64 * 64 sums are 576 KiB
constexpr int64_t kBlockTiles = TUNE_TILES;      // more gain nothing: the sums are touched once per block
constexpr int64_t kBlockFloats = TUNE_BLOCK;  // of V and Z: 576 KiB, 32 tiles of 64 and 64 channels
constexpr int64_t kTasks = 8;
constexpr int64_t kShardTiles = 128;         // at least so many per shard: its inverse transform costs as much as 5
constexpr int64_t kPartFloats = 4 << 20;     // all partial gradients together: 16 MiB

// ---- transforms ---------------------------------------------------------------------------------------------------
//
// Along an axis, six values at the points 0, +a, -a, +b, -b, infinity. They are computed in pairs: the values at +-p
// share an even and an odd part. Two rows of six fit in 16 registers, so a patch is transformed in three passes, one
// for each pair of its rows.

constexpr float kA = 2.f / 3, kB = 4.f / 3;
constexpr float kA2 = kA * kA, kB2 = kB * kB;
constexpr int kPairRow[3][2] = {{0, 5}, {1, 2}, {3, 4}};

// B^T d.
template <int pair>
CONVCORE_INLINE void input_pair(const Vec (&d)[kIn], Vec& first, Vec& second) {
  if constexpr (pair == 0) {
    first = kA2 * kB2 * d[0] + (d[4] - (kA2 + kB2) * d[2]);
    second = kA2 * kB2 * d[1] + (d[5] - (kA2 + kB2) * d[3]);
  } else {
    constexpr float p = pair == 1 ? kA : kB, other2 = pair == 1 ? kB2 : kA2;
    const Vec even = d[4] - other2 * d[2], odd = d[3] - other2 * d[1];
    first = even + p * odd;
    second = even - p * odd;
  }
}

// G d: the cubic with the coefficients d at the six points.
template <int pair>
CONVCORE_INLINE void output_pair(const Vec (&d)[kOut], Vec& first, Vec& second) {
  if constexpr (pair == 0) {
    first = d[0];
    second = d[3];
  } else {
    constexpr float p = pair == 1 ? kA : kB;
    const Vec even = d[0] + p * p * d[2], odd = d[1] + p * p * d[3];
    first = even + p * odd;
    second = even - p * odd;
  }
}

template <int pair>
CONVCORE_INLINE void pair_of(const Vec (&d)[kIn], Vec& first, Vec& second) {
  input_pair<pair>(d, first, second);
}
template <int pair>
CONVCORE_INLINE void pair_of(const Vec (&d)[kOut], Vec& first, Vec& second) {
  output_pair<pair>(d, first, second);
}

// S x S pixels of an image: rows outside of it point to zeros, columns outside of it are not read.
template <int S>
struct Patch {
  const float* row[S];   // its first column
  int64_t step;          // floats from column to column
  int64_t begin, end;    // columns begin .. end - 1 lie in the image

  Patch(const float* image, int64_t height, int64_t width, int64_t channels, int64_t h, int64_t w, const float* zeros)
      : step(channels), begin(max_of<int64_t>(0, -w)), end(min_of<int64_t>(S, width - w)) {
    for (int i = 0; i < S; i++)
      row[i] = h + i >= 0 && h + i < height ? image + ((h + i) * width + w) * channels : zeros;
  }
};

template <int S, int pair, bool partial>
CONVCORE_INLINE void transform_pair(const Patch<S>& patch, int64_t c, int64_t lanes, float* to, int64_t position) {
  Vec rows[2][S];
#pragma GCC unroll 6
  for (int j = 0; j < S; j++) {
    if (j < patch.begin || j >= patch.end) {
      rows[0][j] = rows[1][j] = Vec{};
      continue;
    }
    Vec column[S];
#pragma GCC unroll 6
    for (int i = 0; i < S; i++) {
      const float* from = patch.row[i] + j * patch.step + c;
      column[i] = partial ? load_partial(from, lanes) : load(from);
    }
    pair_of<pair>(column, rows[0][j], rows[1][j]);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; r++) {
    float* row = to + kPairRow[pair][r] * kIn * position;
    Vec first, second;
    pair_of<0>(rows[r], first, second);
    store(row + kPairRow[0][0] * position, first);
    store(row + kPairRow[0][1] * position, second);
    pair_of<1>(rows[r], first, second);
    store(row + kPairRow[1][0] * position, first);
    store(row + kPairRow[1][1] * position, second);
    pair_of<2>(rows[r], first, second);
    store(row + kPairRow[2][0] * position, first);
    store(row + kPairRow[2][1] * position, second);
  }
}

// The transform of the channels c, c + 1, ... of a patch; position p of it goes to `to + p * position`.
template <int S, bool partial>
__attribute__((noinline)) void transform_vector(const Patch<S>& patch, int64_t c, int64_t lanes, float* to,
                                                int64_t position) {
  transform_pair<S, 0, partial>(patch, c, lanes, to, position);
  transform_pair<S, 1, partial>(patch, c, lanes, to, position);
  transform_pair<S, 2, partial>(patch, c, lanes, to, position);
}

template <int S>
void transform(const Patch<S>& patch, int64_t c_begin, int64_t c_end, float* to, int64_t position) {
  int64_t c = c_begin;
  for (; c + kLanes <= c_end; c += kLanes)
    transform_vector<S, false>(patch, c, kLanes, to + (c - c_begin), position);
  if (c < c_end) transform_vector<S, true>(patch, c, c_end - c, to + (c - c_begin), position);
}

// A^T m for the three taps of an axis. The values at +-p have the same weight, 1 over the product of the differences
// to the other points.
CONVCORE_INLINE void inverse(const Vec (&m)[kIn], Vec (&out)[kTaps]) {
  constexpr float w0 = 1 / (kA2 * kB2), wa = 1 / (2 * kA2 * (kA2 - kB2)), wb = 1 / (2 * kB2 * (kB2 - kA2));
  const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  out[0] = w0 * m[0] + wa * even_a + wb * even_b;
  out[1] = wa * kA * odd_a + wb * kB * odd_b;
  out[2] = wa * kA2 * even_a + wb * kB2 * even_b + m[5];
}

// ---- products -----------------------------------------------------------------------------------------------------

constexpr int kMaxVecs = kRegisters >= 32 ? 4 : 3;

// Rows (input channels) of a register tile of `vecs` vectors of output channels: enough sums in flight, few loads per
// FMA, and a divisor of kLanes, so that padded channels need no other tiles. 16 x 1 of 17 loads for 16 FMAs, 8 x 2 of
// 10 for 16, 8 x 3 of 11 for 24, 4 x 4 of 8 for 16; with 16 registers 8 x 1, 4 x 2 and 4 x 3.
constexpr int rows_of(int vecs) {
  const int rows = kRegisters >= 32 ? (vecs == 1 ? 16 : vecs == 4 ? 4 : 8) : (vecs == 1 ? 8 : 4);
  return rows < kLanes ? rows : kLanes;
}

struct Product {  // of one position: sums (+)= sum over tiles of v[tile][c] * z[tile][k]
  const float *v, *z;
  float* sums;                // (c, k)
  int64_t tiles, c, k;        // channels: multiples of kLanes
  bool first;                 // overwrite the sums
};

template <int V>
__attribute__((noinline)) void multiply(const Product& p, int64_t k) {
  constexpr int R = rows_of(V);
  for (int64_t c = 0; c < p.c; c += R) {
    Vec acc[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int i = 0; i < V; i++) acc[r][i] = Vec{};
    const float *v = p.v + c, *z = p.z + k;
    for (int64_t t = 0; t < p.tiles; t++, v += p.c, z += p.k) {
      Vec b[V];
#pragma GCC unroll 4
      for (int i = 0; i < V; i++) b[i] = load(z + i * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) {
        const Vec a = splat(v[r]);
#pragma GCC unroll 4
        for (int i = 0; i < V; i++) acc[r][i] += a * b[i];
      }
    }
    float* sums = p.sums + c * p.k + k;
    for (int r = 0; r < R; r++, sums += p.k)
#pragma GCC unroll 4
      for (int i = 0; i < V; i++) {
        float* to = sums + i * kLanes;
        store(to, p.first ? acc[r][i] : load(to) + acc[r][i]);
      }
  }
}

void multiply(const Product& p) {
  for (int64_t k = 0; k < p.k;) {
    const int64_t vecs = next_tile((p.k - k) / kLanes, kMaxVecs);
    if (kMaxVecs >= 4 && vecs == 4) multiply<kMaxVecs>(p, k);
    else if (vecs == 3) multiply<3>(p, k);
    else if (vecs == 2) multiply<2>(p, k);
    else multiply<1>(p, k);
    k += vecs * kLanes;
  }
}

// ---- tasks --------------------------------------------------------------------------------------------------------

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t whole_vectors(int64_t channels) { return ceil_div(channels, kLanes) * kLanes; }

struct Ranges {  // channels cut into `count` ranges of whole vectors
  int64_t channels, count, size;
  explicit Ranges(int64_t channels)
      : channels(channels),
        count(ceil_div(channels, kRange)),
        size(whole_vectors(ceil_div(channels, max_of<int64_t>(1, count)))) {}
  int64_t begin(int64_t i) const { return min_of(channels, i * size); }
  int64_t end(int64_t i) const { return min_of(channels, (i + 1) * size); }
};

struct Cuts {
  int64_t tile_rows, tile_columns, tiles, shards;
  Ranges c, k;
  explicit Cuts(const Conv2dShape& s)
      : tile_rows(ceil_div(s.h_out, kOut)),
        tile_columns(ceil_div(s.w_out, kOut)),
        tiles(s.n * tile_rows * tile_columns),
        c(s.c_in),
        k(s.c_out) {
    const int64_t fair = ceil_div(kTasks, max_of<int64_t>(1, c.count * k.count));
    const int64_t fit = kPartFloats / max_of<int64_t>(1, kTaps * kTaps * s.c_in * whole_vectors(s.c_out));
    shards = max_of<int64_t>(1, min_of(fair, min_of(fit, tiles / kShardTiles)));
  }
};

struct Task {
  const Conv2dShape& s;
  const Cuts& cuts;
  const float *dy, *x;
  int64_t c_begin, c_end, k_begin, k_end;
  // Block of tiles: floats from tile to tile are c and k. Positions are a vector further apart than they need be, so
  // that they do not all fall into the same cache sets.
  int64_t c, k, block, v_position, z_position, sums_position;
  float *zeros, *v, *z, *sums;

  Task(const Conv2dShape& s, const Cuts& cuts, const float* dy, const float* x, int64_t c_range, int64_t k_range)
      : s(s), cuts(cuts), dy(dy), x(x) {
    c_begin = cuts.c.begin(c_range), c_end = cuts.c.end(c_range);
    k_begin = cuts.k.begin(k_range), k_end = cuts.k.end(k_range);
    c = whole_vectors(c_end - c_begin), k = whole_vectors(k_end - k_begin);
    block = max_of<int64_t>(1, min_of(kBlockTiles, kBlockFloats / (kPositions * (c + k))));
    v_position = block * c + 16, z_position = block * k + 16, sums_position = c * k + 16;
    const int64_t zero_floats = whole_vectors(kIn * max_of(s.c_in, s.c_out));
    zeros = static_cast<float*>(thread_workspace(
        0, size_t(zero_floats + kPositions * (v_position + z_position + sums_position)) * sizeof(float)));
    memset(zeros, 0, size_t(zero_floats) * sizeof(float));
    v = zeros + zero_floats;
    z = v + kPositions * v_position;
    sums = z + kPositions * z_position;
  }

  template <typename F>
  void at_tile(int64_t tile, const F& f) const {
    const int64_t in_image = cuts.tile_rows * cuts.tile_columns, n = tile / in_image;
    f(n, tile % in_image / cuts.tile_columns * kOut, tile % cuts.tile_columns * kOut);
  }

  void transform_block(int64_t tile, int64_t tiles) const {
    for (int64_t t = 0; t < tiles; t++)
      at_tile(tile + t, [&](int64_t n, int64_t h, int64_t w) {
        const Patch<kIn> patch(x + n * s.h_in * s.w_in * s.c_in, s.h_in, s.w_in, s.c_in, h - s.window.h.pad_before,
                               w - s.window.w.pad_before, zeros);
        transform(patch, c_begin, c_end, v + t * c, v_position);
        const Patch<kOut> out(dy + n * s.h_out * s.w_out * s.c_out, s.h_out, s.w_out, s.c_out, h, w, zeros);
        transform(out, k_begin, k_end, z + t * k, z_position);
      });
  }

  // Brings what transform_block will read of a tile into L2 (its share of x and dy).
  void prefetch_tile(int64_t tile) const {
    at_tile(tile, [&](int64_t n, int64_t h, int64_t w) {
      for (int64_t i = h; i < min_of(h + kOut, s.h_out); i++)
        for (int64_t j = w; j < min_of(w + kOut, s.w_out); j++) {
          const float* from = dy + ((n * s.h_out + i) * s.w_out + j) * s.c_out;
          for (int64_t q = k_begin; q < k_end; q += 16) __builtin_prefetch(from + q, 0, 2);
        }
      for (int64_t i = h; i < min_of(h + kOut, s.h_in); i++)
        for (int64_t j = w; j < min_of(w + kOut, s.w_in); j++) {
          const float* from = x + ((n * s.h_in + i) * s.w_in + j) * s.c_in;
          for (int64_t q = c_begin; q < c_end; q += 16) __builtin_prefetch(from + q, 0, 2);
        }
    });
  }

  void run(int64_t begin, int64_t end, float* part) const {
    for (int64_t tile = begin; tile < end; tile += block) {
      const int64_t tiles = min_of(block, end - tile);
      transform_block(tile, tiles);
      const int64_t next = tile + tiles, ahead = min_of(block, end - next);
      for (int64_t p = 0; p < kPositions; p++) {
        for (int64_t t = ahead * p / kPositions; t < ahead * (p + 1) / kPositions; t++) prefetch_tile(next + t);
        multiply({v + p * v_position, z + p * z_position, sums + p * sums_position, tiles, c, k, tile == begin});
      }
    }
    write(part);
  }

  // part[(c, tap)][k], as weight_shards.h has it.
  void write(float* part) const {
    const int64_t row = whole_vectors(s.c_out);
    for (int64_t i = c_begin; i < c_end; i++)
      for (int64_t j = 0; j < k; j += kLanes) {
        const float* from = sums + (i - c_begin) * k + j;
        Vec half[kTaps][kIn];
#pragma GCC unroll 6
        for (int q = 0; q < kIn; q++) {
          Vec m[kIn], column[kTaps];
#pragma GCC unroll 6
          for (int p = 0; p < kIn; p++) m[p] = load(from + (p * kIn + q) * sums_position);
          inverse(m, column);
#pragma GCC unroll 3
          for (int a = 0; a < kTaps; a++) half[a][q] = column[a];
        }
        float* to = part + i * kTaps * kTaps * row + k_begin + j;
#pragma GCC unroll 3
        for (int a = 0; a < kTaps; a++) {
          Vec taps[kTaps];
          inverse(half[a], taps);
#pragma GCC unroll 3
          for (int b = 0; b < kTaps; b++) store(to + (a * kTaps + b) * row, taps[b]);
        }
      }
  }
};

}  // namespace

void winograd_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const Cuts cuts(s);
  const int64_t rows = s.c_in * kTaps * kTaps, part = rows * whole_vectors(s.c_out);
  if (cuts.tiles == 0) {
    memset(dw, 0, size_t(rows * s.c_out) * sizeof(float));
    return;
  }
  const ScratchBlock block(size_t(cuts.shards * part) * sizeof(float));
  float* parts = static_cast<float*>(block.data());

  const int64_t ranges = cuts.c.count * cuts.k.count;
  const int64_t work = cuts.tiles / cuts.shards * kPositions * (cuts.c.size * cuts.k.size / kLanes + 1);
  parallel_for(cuts.shards * ranges, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t shard = i / ranges, range = i % ranges;
      const Task task(s, cuts, dy, x, range / cuts.k.count, range % cuts.k.count);
      task.run(cuts.tiles * shard / cuts.shards, cuts.tiles * (shard + 1) / cuts.shards, parts + shard * part);
    }
  });
  sum_weight_shards(parts, cuts.shards, rows, s.c_out, whole_vectors(s.c_out), dw);
}

}  // namespace convcore::cpu::CONVCORE_ISA

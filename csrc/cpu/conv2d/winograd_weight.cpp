// dw = sum over tiles of A^T [(B^T x B) . (G dy G^T)] A, with tiles of dy of 4x4 pixels (3x3 filters) or 2x2 (5x5), the
// 6x6 patches of x under them, and the interpolation points 0, +-2/3, +-4/3, infinity (S. Winograd, "Arithmetic
// Complexity of Computations", 1980; A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The
// textbook's points 0, +-1, +-2 cost the same and have three times the error.
//
// A task is a shard of the tiles, a range of input and a range of output channels. The 36 positions are those of three
// pairs of rows, and each pair is done by itself: a stretch of tiles is walked through three times, in blocks, whose
// patches (V) and tiles (Z) are transformed to the 12 values of the pair, multiplied and added to the task's sums. So V
// and Z are a third as large as with all positions at once, and so are the sums that are passed over for each block.
// The inverse transform runs once, at the end of the task.
#include "cpu/conv2d/winograd_weight.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/conv2d/weight_shards.h"
#include "cpu/conv2d/winograd_strip.h"
#include "cpu/prefetch.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kIn = 6;  // along an axis, of a patch of x; that of a tile of dy, kOut, is a template parameter
constexpr int taps_of(int out) { return kIn + 1 - out; }
constexpr int kPositions = kIn * kIn;
constexpr int64_t kPad = kAlignment / sizeof(float);

constexpr int64_t kRange = 64;               // channels of a task, at most: 36 * 64 * 64 sums are 576 KiB
constexpr int64_t kBlockTiles = 64;          // of a block, at most
constexpr int64_t kBlockFloats = 12 << 12;   // V and Z of a block, at most: 192 KiB, 32 tiles of 64 and 64 channels
constexpr int64_t kStretchFloats = 1 << 17;  // pixels of x and dy that are walked through three times: 512 KiB of L2
constexpr int64_t kTasks = 8;                // cut the tiles into shards until there are so many tasks,
constexpr int64_t kShardTiles = 128;         // but not smaller: the inverse transform costs as much as 5 tiles
constexpr int64_t kPartFloats = 4 << 20;     // all partial gradients together: 16 MiB

// ---- transforms ---------------------------------------------------------------------------------------------------
//
// Along an axis, six values at the points 0, +-a, +-b, infinity (winograd.h), computed in pairs that share their parts.
// Two rows of six fit in 16 registers. The positions are kept in the order of the pairs of rows.

constexpr int kGroup = 2 * kIn;  // positions of a pair of rows
constexpr int row_position(int row) { return row == 0 ? 0 : row == kIn - 1 ? kIn : (row + 1) * kIn; }

// G d: the polynomial with the coefficients d, at the points.
template <int pair>
CONVCORE_INLINE VecPair pair_of(const Vec (&d)[4]) {
  if constexpr (pair == 0) return {d[0], d[3]};
  constexpr float p = pair == 1 ? kPointA : kPointB, p2 = pair == 1 ? kPointA2 : kPointB2;
  const Vec even = d[0] + p2 * d[2], odd = d[1] + p2 * d[3];
  return {even + p * odd, even - p * odd};
}

template <int pair>
CONVCORE_INLINE VecPair pair_of(const Vec (&d)[2]) {
  if constexpr (pair == 0) return {d[0], d[1]};
  constexpr float p = pair == 1 ? kPointA : kPointB;
  return {d[0] + p * d[1], d[0] - p * d[1]};
}

template <int pair, int kOut>
CONVCORE_INLINE void store_pair(const Vec (&row)[kOut], float* to, int64_t position) {
  const VecPair values = pair_of<pair>(row);
  store(to + first_point(kIn, pair) * position, values.first);
  store(to + second_point(kIn, pair) * position, values.second);
}

// A tile of dy, which may reach past the edges of the image.
template <int kOut>
struct Pixels {
  const float* row[kOut];  // column 0 of the image; rows outside of it point to zeros
  int64_t columns, step;   // of the image; floats from column to column
  int64_t column;          // of the first pixel
};

// The values of a pair of rows: 12 positions, `position` floats apart, for `lanes` channels from c on.
template <int pair, bool whole, int kOut>
CONVCORE_INLINE void transform_pixels(const Pixels<kOut>& pixels, int64_t c, int64_t lanes, float* to,
                                      int64_t position) {
  Vec rows[2][kOut];
#pragma GCC unroll 4
  for (int j = 0; j < kOut; j++) {
    const int64_t column = pixels.column + j;
    const bool inside = whole || column < pixels.columns;
    const int64_t at = (inside ? column : 0) * pixels.step + c;
    Vec d[kOut];
#pragma GCC unroll 4
    for (int i = 0; i < kOut; i++)
      d[i] = whole ? load(pixels.row[i] + at) : load_partial(pixels.row[i] + at, inside ? lanes : 0);
    const VecPair values = pair_of<pair>(d);
    rows[0][j] = values.first;
    rows[1][j] = values.second;
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; r++) {
    float* row = to + r * kIn * position;
    store_pair<0>(rows[r], row, position);
    store_pair<1>(rows[r], row, position);
    store_pair<2>(rows[r], row, position);
  }
}

// For the channels c_begin .. c_end - 1 and zeros up to a whole vector.
template <int pair, int kOut>
__attribute__((noinline)) void transform_pixels(const Pixels<kOut>& pixels, int64_t c_begin, int64_t c_end, float* to,
                                                int64_t position) {
  const bool inside = pixels.column + kOut <= pixels.columns;
  for (int64_t c = c_begin; c < c_end; c += kLanes, to += kLanes) {
    if (inside && c + kLanes <= c_end)
      transform_pixels<pair, true>(pixels, c, kLanes, to, position);
    else
      transform_pixels<pair, false>(pixels, c, min_of<int64_t>(kLanes, c_end - c), to, position);
  }
}

// A^T m for the taps of an axis. The values at +-p have the same weight, 1 over the product of the differences to the
// other points.
constexpr float kWeight0 = 1 / (kPointA2 * kPointB2), kWeightA = 1 / (2 * kPointA2 * (kPointA2 - kPointB2)),
                kWeightB = 1 / (2 * kPointB2 * (kPointB2 - kPointA2));

CONVCORE_INLINE void inverse(const Vec (&m)[kIn], Vec (&out)[3]) {
  const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  out[0] = kWeight0 * m[0] + kWeightA * even_a + kWeightB * even_b;
  out[1] = kWeightA * kPointA * odd_a + kWeightB * kPointB * odd_b;
  out[2] = kWeightA * kPointA2 * even_a + kWeightB * kPointB2 * even_b + m[5];
}

CONVCORE_INLINE void inverse(const Vec (&m)[kIn], Vec (&out)[5]) {
  const Vec even_a = kWeightA * (m[1] + m[2]), odd_a = kWeightA * kPointA * (m[1] - m[2]);
  const Vec even_b = kWeightB * (m[3] + m[4]), odd_b = kWeightB * kPointB * (m[3] - m[4]);
  out[0] = kWeight0 * m[0] + even_a + even_b;
  out[1] = odd_a + odd_b;
  out[2] = kPointA2 * even_a + kPointB2 * even_b;
  out[3] = kPointA2 * odd_a + kPointB2 * odd_b;
  out[4] = kPointA2 * kPointA2 * even_a + kPointB2 * kPointB2 * even_b + m[5];
}

// ---- products -----------------------------------------------------------------------------------------------------

// Brings the pixels of the next block into L2, some at a time: the memory is kept busy while the products are computed.
struct Prefetch {
  const float* at;
  int64_t pixels, step, floats;  // pixels left; floats from pixel to pixel, floats of a pixel
  int64_t pixels_at_a_time;

  inline __attribute__((always_inline)) void some() {
    for (int64_t left = min_of(pixels_at_a_time, pixels); left > 0; left--, pixels--, at += step)
      for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(at + i, 0, 2);
  }
};

// What `multiply` brings into L2 on the way: what a plan has announced, else the next block of these images.
struct Streams {
  Prefetch x, dy;
  Ahead& announced;
  inline __attribute__((always_inline)) void some(int64_t fmas) {
    if (announced.count > 0) return fetch_ahead(announced, lines_beside(fmas));
    x.some();
    dy.some();
  }
};

// For every position of a pair: sums[c][k] += sum over the tiles of v[c / kLanes][tile][c % kLanes] * z[tile][k].
struct Products {
  const float *v, *z;
  float* sums;
  int64_t v_position, v_vector, z_position, sums_position;  // floats from position to position, vector to vector
  int64_t tiles, c, k;                                      // channels: multiples of kLanes
  bool first;                                               // overwrite the sums
};

template <int V>
__attribute__((noinline)) void multiply(const Products& p, int64_t k, Streams& streams) {
  constexpr int R = weight_rows(V);
  for (int64_t position = 0; position < kGroup; position++)
    for (int64_t c = 0; c < p.c; c += R) {
      streams.some(p.tiles * R * V);
      const float* v = p.v + position * p.v_position + c / kLanes * p.v_vector + c % kLanes;
      const float* z = p.z + position * p.z_position + k;
      float* sums = p.sums + position * p.sums_position + c * p.k + k;
      Vec acc[R][V] = {};
#pragma GCC unroll 4
      for (int64_t t = 0; t < p.tiles; t++, v += kLanes, z += p.k) {
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
#pragma GCC unroll 16
      for (int r = 0; r < R; r++, sums += p.k)
#pragma GCC unroll 4
        for (int i = 0; i < V; i++) {
          float* to = sums + i * kLanes;
          store(to, p.first ? acc[r][i] : load(to) + acc[r][i]);
        }
    }
}

void multiply(const Products& p, Streams& streams) {
  for (int64_t k = 0; k < p.k;)
    k += kLanes * with_weight_vecs((p.k - k) / kLanes, [&](auto vecs) { multiply<vecs.value>(p, k, streams); });
}

// ---- tasks --------------------------------------------------------------------------------------------------------

int64_t out_of(const Conv2dShape& s) { return kIn + 1 - s.window.h.kernel; }

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
      : tile_rows(ceil_div(s.h_out, out_of(s))),
        tile_columns(ceil_div(s.w_out, out_of(s))),
        tiles(s.n * tile_rows * tile_columns),
        c(s.c_in),
        k(s.c_out) {
    const int64_t fair = ceil_div(kTasks, max_of<int64_t>(1, c.count * k.count));
    const int64_t fit = kPartFloats / max_of<int64_t>(1, s.taps() * s.c_in * whole_vectors(s.c_out));
    shards = max_of<int64_t>(1, min_of(fair, min_of(fit, tiles / kShardTiles)));
  }
};

template <int kOut>
struct Task {
  static constexpr int kTaps = taps_of(kOut);
  const Conv2dShape& s;
  const Cuts& cuts;
  const float *dy, *x;
  int64_t c_begin, c_end, k_begin, k_end;
  // Channels of the task in whole vectors, tiles of a block and of a stretch; floats from position to position.
  // Positions are a cache line further apart than they need be, so that they do not all fall into the same cache sets.
  int64_t c, k, block, stretch, v_position, z_position, sums_position;
  float *zeros, *v, *z, *sums;

  // `kept`: memory for the sums that stays between calls, or null.
  Task(const Conv2dShape& s, const Cuts& cuts, const float* dy, const float* x, int64_t c_range, int64_t k_range,
       float* kept)
      : s(s), cuts(cuts), dy(dy), x(x) {
    c_begin = cuts.c.begin(c_range), c_end = cuts.c.end(c_range);
    k_begin = cuts.k.begin(k_range), k_end = cuts.k.end(k_range);
    c = whole_vectors(c_end - c_begin), k = whole_vectors(k_end - k_begin);
    block = max_of<int64_t>(1, min_of(kBlockTiles, kBlockFloats / (kGroup * (c + k))));
    stretch = max_of<int64_t>(1, kStretchFloats / (kOut * kOut * (c + k)) / block) * block;
    v_position = block * c + kPad, z_position = block * k + kPad, sums_position = c * k + kPad;
    const int64_t zero_floats = whole_vectors(max_of(s.w_in * s.c_in, s.w_out * s.c_out));
    const int64_t own_sums = kept ? 0 : kPositions * sums_position;
    zeros = static_cast<float*>(
        thread_workspace(0, size_t(zero_floats + kGroup * (v_position + z_position) + own_sums) * sizeof(float)));
    memset(zeros, 0, size_t(zero_floats) * sizeof(float));
    v = zeros + zero_floats;
    z = v + kGroup * v_position;
    sums = kept ? kept : z + kGroup * z_position;
  }

  Pixels<kOut> pixels(const float* image, int64_t h, int64_t w) const {
    Pixels<kOut> pixels;
    for (int i = 0; i < kOut; i++) pixels.row[i] = h + i < s.h_out ? image + (h + i) * s.w_out * s.c_out : zeros;
    pixels.columns = s.w_out, pixels.step = s.c_out, pixels.column = w;
    return pixels;
  }

  template <int pair>
  void transform_patches(const Strip<kIn>& strip, float* to) const {
    const int64_t last = (kIn - 1) * v_position;
    for (int64_t at = c_begin; at < c_end; at += kLanes, to += block * kLanes) {
      if (at + kLanes <= c_end)
        transform_strip<pair, true, kOut, kIn>(strip, at, kLanes, to, to + kIn * v_position, v_position, last);
      else
        transform_strip<pair, false, kOut, kIn>(strip, at, c_end - at, to, to + kIn * v_position, v_position, last);
    }
  }

  template <int pair>
  void transform_block(int64_t begin, int64_t tiles) const {
    for (int64_t t = 0, run; t < tiles; t += run) {  // tiles of one row
      const int64_t row = (begin + t) / cuts.tile_columns, j = (begin + t) % cuts.tile_columns;
      const int64_t n = row / cuts.tile_rows, i = row % cuts.tile_rows;
      run = min_of(tiles - t, cuts.tile_columns - j);
      transform_patches<pair>(
          strip_at<kIn>(x + n * s.h_in * s.w_in * s.c_in, s.h_in, s.w_in, s.c_in, i * kOut - s.window.h.pad_before,
                        j * kOut - s.window.w.pad_before, 1, run, zeros),
          v + t * kLanes);
      const float* image = dy + n * s.h_out * s.w_out * s.c_out;
      for (int64_t r = 0; r < run; r++)
        transform_pixels<pair>(pixels(image, i * kOut, (j + r) * kOut), k_begin, k_end, z + (t + r) * k, z_position);
    }
  }

  // The pixels of the tiles begin .. end - 1, about: as if the rows of a tile were one after the other.
  Prefetch prefetch(const float* images, int64_t height, int64_t width, int64_t channels, int64_t c0, int64_t c1,
                    int64_t begin, int64_t end) const {
    const auto first_pixel = [&](int64_t tile) {
      const int64_t row = tile / cuts.tile_columns, n = row / cuts.tile_rows;
      return (n * height + min_of(height, row % cuts.tile_rows * kOut)) * width +
             kOut * min_of(width, tile % cuts.tile_columns * kOut);
    };
    const int64_t all = s.n * height * width, from = min_of(first_pixel(begin), all);
    const int64_t pixels = min_of(first_pixel(end), all) - from;
    const int64_t times = kPositions * (c * k) / (kLanes * kLanes);  // at least so often does `multiply` call
    return {images + from * channels + c0, pixels, channels, c1 - c0, ceil_div(pixels, times)};
  }

  template <int pair>
  void add_pair(int64_t begin, int64_t end, bool first, Streams& next) const {
    float* to = sums + pair * kGroup * sums_position;
    for (int64_t tile = begin; tile < end; tile += block) {
      const int64_t tiles = min_of(block, end - tile);
      transform_block<pair>(tile, tiles);
      multiply({v, z, to, v_position, block * kLanes, z_position, sums_position, tiles, c, k, first && tile == begin},
               next);
    }
  }

  // Adds the tiles to the sums, or overwrites these.
  void add(int64_t begin, int64_t end, bool overwrite) const {
    for (int64_t from = begin; from < end; from += stretch) {
      const int64_t to = min_of(from + stretch, end), next_end = min_of(to + stretch, end);
      Streams next{prefetch(x, s.h_in, s.w_in, s.c_in, c_begin, c_end, to, next_end),
                   prefetch(dy, s.h_out, s.w_out, s.c_out, k_begin, k_end, to, next_end), ahead()};
      const bool first = overwrite && from == begin;
      add_pair<0>(from, to, first, next);
      add_pair<1>(from, to, first, next);
      add_pair<2>(from, to, first, next);
    }
  }

  // Transforms the sums back, along the columns in their own place (16 registers do not hold both directions), and puts
  // them into the part.
  void write(const WeightParts& parts, int64_t shard, bool overwrite) const {
    for (int64_t i = c_begin; i < c_end; i++)
      for (int64_t j = 0; j < k; j += kLanes) {
        float* at = sums + (i - c_begin) * k + j;
#pragma GCC unroll 1
        for (int q = 0; q < kIn; q++) {
          Vec m[kIn], column[kTaps];
#pragma GCC unroll 6
          for (int p = 0; p < kIn; p++) m[p] = load(at + (row_position(p) + q) * sums_position);
          inverse(m, column);
#pragma GCC unroll 5
          for (int a = 0; a < kTaps; a++) store(at + (row_position(a) + q) * sums_position, column[a]);
        }
#pragma GCC unroll 1
        for (int a = 0; a < kTaps; a++) {
          Vec m[kIn], taps[kTaps];
#pragma GCC unroll 6
          for (int q = 0; q < kIn; q++) m[q] = load(at + (row_position(a) + q) * sums_position);
          inverse(m, taps);
#pragma GCC unroll 5
          for (int b = 0; b < kTaps; b++) {
            float* to = parts.at(shard, a * kTaps + b, i) + k_begin + j;
            store(to, overwrite ? taps[b] : load(to) + taps[b]);
          }
        }
      }
  }
};

// f(Out<kOut>{}) of a shape.
template <int out>
struct Out {
  static constexpr int value = out;
};
template <typename F>
void with_out(const Conv2dShape& s, const F& f) {
  out_of(s) == 4 ? f(Out<4>{}) : f(Out<2>{});
}

}  // namespace

void winograd_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const Cuts cuts(s);
  if (cuts.tiles == 0) {
    memset(dw, 0, size_t(s.c_out * s.c_in * s.taps()) * sizeof(float));
    return;
  }
  WeightParts parts{nullptr, cuts.shards, s.taps(), s.c_in, s.c_out};
  const ScratchBlock block(size_t(cuts.shards * parts.part()) * sizeof(float));
  parts.data = static_cast<float*>(block.data());

  const int64_t ranges = cuts.c.count * cuts.k.count;
  const int64_t work = cuts.tiles / cuts.shards * kPositions * (cuts.c.size * cuts.k.size / kLanes + 1);
  with_out(s, [&](auto out) {
    parallel_for(cuts.shards * ranges, work, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t shard = i / ranges, range = i % ranges;
        const Task<out.value> task(s, cuts, dy, x, range / cuts.k.count, range % cuts.k.count, nullptr);
        task.add(cuts.tiles * shard / cuts.shards, cuts.tiles * (shard + 1) / cuts.shards, true);
        task.write(parts, shard, true);
      }
    });
  });
  sum_weight_parts(parts, dw);
}

int64_t winograd_weight_sum_floats(const Conv2dShape& s) {
  const Cuts cuts(s);
  const bool one_task = cuts.c.count * cuts.k.count == 1;
  return one_task ? kPositions * (whole_vectors(s.c_in) * whole_vectors(s.c_out) + kPad) : 0;
}

void winograd_weight_part(const Conv2dShape& s, const float* dy, const float* x, float* sums, bool first, bool last,
                          float* part) {
  const Cuts cuts(s);
  const WeightParts parts{part, 1, s.taps(), s.c_in, s.c_out};
  with_out(s, [&](auto out) {
    for (int64_t range = 0; range < cuts.c.count * cuts.k.count; range++) {
      const Task<out.value> task(s, cuts, dy, x, range / cuts.k.count, range % cuts.k.count, sums);
      task.add(0, cuts.tiles, first || !sums);
      if (last || !sums) task.write(parts, 0, first || sums);
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA

// The convolution by F(4x4, 3x3) or F(2x2, 3x3), fused: each thread takes a block of tiles from the input to the output
// on its own.
//
//   gather and transform the input of the block            V[p][channel vector][tile][lane]
//   36 or 16 products, one per point                        M[p][channel vector][tile][lane]
//   transform and scatter the output
//
// V and M of a block stay in the caches nearest to the core; for the whole batch they would be 2.25 or 4 times the
// images, read and written twice. M[p] is written where V[p - 1] (going backwards V[p + 1]) was, so that one buffer
// holds both.
//
// While a core computes the products, which need no memory beyond its caches, it prefetches the input of the next block
// and the lines that the transform of the output will read and write.
#include "cpu/conv2d/winograd.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/conv2d/winograd_strip.h"
#include "cpu/doubles.h"
#include "cpu/prefetch.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

// Rows and columns of an output tile are a template parameter, `kTile`; of the input that it sees, as many as points:
constexpr int input_of(int tile) { return tile + 2; }
constexpr int points_of(int tile) { return input_of(tile) * input_of(tile); }

constexpr int64_t kPad = kAlignment / sizeof(float);  // between points: 36 streams a power of two apart share few sets

// Register tile of the products: kRows tiles times one or two vectors of output channels. Per input channel, kRows
// broadcasts and two loads feed 2 kRows FMAs. With 32 registers 16 sums keep both FMA units busy; more rows would mean
// larger blocks. With 16 registers 12 sums, two vectors of U and a broadcast fill them.
constexpr int kRows = kRegisters >= 32 ? 8 : 6;

// Tiles of a block. Where U fits half of an L2 cache, few, for the sake of L1: V and M of 16 channels take 40 KiB.
// Where it does not, many, to read U from further away less often.
constexpr int64_t kSmallBlock = 2 * kRows;
constexpr int64_t kLargeBlock = 8 * kRows;
constexpr int64_t kCachedFloats = 1 << 18;

// Input channels summed in one go. Longer sums are added up from such parts, whose rounding errors are smaller.
constexpr int64_t kDepth = 64;

int64_t vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// U[p][pair of vectors of output channels][input channel][vector][lane], the last vector alone where their number is
// odd.
int64_t filter_point(const WinogradShape& s) { return vectors(s.c_out) * kLanes * s.c_in + kPad; }

struct Place {  // of a tile: image, and row and column counted in tiles
  int64_t n, row, column;
};

// How the work is cut, and where the points of V and M lie. Functions of the shape alone.
struct Layout {
  int64_t rows, columns, tiles;  // tiles: of an image from top to bottom and from left to right; of all images
  int64_t block, blocks;         // tiles of a block; blocks
  int64_t c_vectors, k_vectors;
  int64_t shares, share;  // of the output channels, each a task of its own; vectors of one
  int64_t vector;         // floats from one vector of channels to the next
  int64_t point;          // floats from one point to the next

  explicit Layout(const WinogradShape& s)
      : rows((s.h_out + s.tile - 1) / s.tile),
        columns((s.w_out + s.tile - 1) / s.tile),
        tiles(s.n * rows * columns),
        c_vectors(vectors(s.c_in)),
        k_vectors(vectors(s.c_out)) {
    const bool cached = points_of(int(s.tile)) * filter_point(s) <= kCachedFloats;
    block = cached ? kSmallBlock : kLargeBlock;
    blocks = (tiles + block - 1) / block;
    if (blocks > 0) block = (tiles + blocks * kRows - 1) / (blocks * kRows) * kRows;  // all about as large
    // Few blocks of many channels: cut the channels, so that there is work for eight threads. Each share transforms
    // the input anew, which costs little beside its products.
    constexpr int64_t kTasks = 8, kLeastShare = 128 / kLanes;
    shares = min_of((kTasks + max_of<int64_t>(1, blocks) - 1) / max_of<int64_t>(1, blocks),
                    max_of<int64_t>(1, k_vectors / kLeastShare));
    share = (k_vectors / shares + 1) / 2 * 2;
    shares = (k_vectors + share - 1) / share;
    vector = block * kLanes;
    point = max_of(c_vectors, share) * vector + kPad;
  }
  Place place(int64_t tile) const { return {tile / (rows * columns), tile / columns % rows, tile % columns}; }
};

struct Block {
  int64_t count;
  Place at[kLargeBlock];

  // The block of tiles that begins at `first`; afterwards `first` is where the next one begins, if there is one.
  void set(const Layout& layout, int64_t images, Place& first) {
    for (count = 0; count < layout.block && first.n < images; count++) {
      at[count] = first;
      if (++first.column < layout.columns) continue;
      first.column = 0;
      if (++first.row < layout.rows) continue;
      first.row = 0, first.n++;
    }
  }
};

// ---- input --------------------------------------------------------------------------------------------------------

template <bool whole, int kIn, int pair = 0>
void transform_channels(const Strip<kIn>& s, int64_t channel, int64_t lanes, float* v, int64_t point) {
  transform_strip<pair, whole>(s, channel, lanes, v + first_point(pair) * kIn * point,
                               v + second_point(kIn, pair) * kIn * point, point);
  if constexpr (pair + 1 < kIn / 2) transform_channels<whole, kIn, pair + 1>(s, channel, lanes, v, point);
}

// The longest strip of zeros that a row outside the image stands for.
int64_t zero_floats(const WinogradShape& s, const Layout& layout) {
  const int64_t pixels = min_of(s.tile * min_of(layout.block, layout.columns) + 2, s.w_in);
  return (pixels * s.c_in + kPad - 1) / kPad * kPad;
}

template <int kTile>
void transform_input(const WinogradShape& s, const Layout& layout, const Block& block, const float* in,
                     const float* zeros, float* v) {
  for (int64_t t = 0, run; t < block.count; t += run) {
    const Place& place = block.at[t];
    run = min_of(block.count - t, layout.columns - place.column);
    const auto strip =
        strip_at<input_of(kTile)>(in + place.n * s.h_in * s.w_in * s.c_in, s.h_in, s.w_in, s.c_in,
                                  kTile * place.row - s.pad_top, kTile * place.column - s.pad_left, run, zeros);
    for (int64_t c = 0; c < layout.c_vectors; c++) {
      const int64_t lanes = s.c_in - c * kLanes;
      float* to = v + c * layout.vector + t * kLanes;
      if (lanes >= kLanes)
        transform_channels<true>(strip, c * kLanes, kLanes, to, layout.point);
      else
        transform_channels<false>(strip, c * kLanes, lanes, to, layout.point);
    }
  }
}

// ---- products -----------------------------------------------------------------------------------------------------

// m[q][r] = sum_c v[c / kLanes][r][c % kLanes] * u[c][q] for kRows tiles r and V vectors q of output channels; with
// `add` the sum goes on top of m. `vector` is the distance from one vector of channels to the next, in v and m.
template <int V, bool add>
CONVCORE_INLINE void product_tile(const float* v, const float* u, int64_t c_in, float* m, int64_t vector) {
  Vec acc[kRows][V] = {};
  const auto add_channel = [&](const float* a, const float* b) __attribute__((always_inline)) {
    Vec bq[V];
#pragma GCC unroll 2
    for (int q = 0; q < V; q++) bq[q] = load(b + q * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
      for (int q = 0; q < V; q++) acc[r][q] += a[r * kLanes] * bq[q];
  };
  for (; c_in >= kLanes; c_in -= kLanes, v += vector, u += kLanes * V * kLanes)
#pragma GCC unroll 16
    for (int c = 0; c < kLanes; c++) add_channel(v + c, u + c * V * kLanes);
  for (int64_t c = 0; c < c_in; c++) add_channel(v + c, u + c * V * kLanes);
#pragma GCC unroll 2
  for (int q = 0; q < V; q++)
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      float* to = m + q * vector + r * kLanes;
      store(to, add ? load(to) + acc[r][q] : acc[r][q]);
    }
}

// The channels c_begin to c_end of M[p] = V[p] U[p], for all tiles of a block. (The last block may have fewer: what is
// computed in the place of those that are missing is never read.)
template <bool add>
__attribute__((noinline)) void product(const float* v, const float* u, int64_t c_begin, int64_t c_end, int64_t c_in,
                                       int64_t k_vectors, float* m, int64_t vector) {
  v += c_begin / kLanes * vector;
  for (; k_vectors >= 2; k_vectors -= 2, u += 2 * kLanes * c_in, m += 2 * vector)
    for (int64_t t = 0; t < vector; t += kRows * kLanes)
      product_tile<2, add>(v + t, u + c_begin * 2 * kLanes, c_end - c_begin, m + t, vector);
  if (k_vectors > 0)
    for (int64_t t = 0; t < vector; t += kRows * kLanes)
      product_tile<1, add>(v + t, u + c_begin * kLanes, c_end - c_begin, m + t, vector);
}

// ---- output -------------------------------------------------------------------------------------------------------

// What is done with a vector of results after the bias, at the same place in `add`, `x`, `y` and `out`.
enum class After { nothing, relu, sums, masked_sums };

struct Finish {
  Vec bias;
  const float *add, *x, *y;
  Vec mean, sum_dz, sum_dz_x;  // the sums of a block: of some hundred values at most
};

// The sums of a tile first, so that a float is no sum of more than some tens of values.
struct TileSums {
  Vec dz = {}, dz_x = {};
};

template <bool whole, bool adds, After after>
CONVCORE_INLINE Vec finished(Vec y, const Finish& f, int64_t at, int64_t lanes, TileSums& sums) {
  if (adds) y += load_lanes<whole>(f.add + at, lanes);
  if (after == After::relu) y = select(at_most(y, Vec{}), Vec{}, y);
  if (after == After::masked_sums) y = select(at_most(load_lanes<whole>(f.y + at, lanes), Vec{}), Vec{}, y);
  if (after == After::sums || after == After::masked_sums) {
    sums.dz += y;
    sums.dz_x += y * (load_lanes<whole>(f.x + at, lanes) - f.mean);
  }
  return y;
}

// One output tile, of which `rows` x `columns` lie inside the image; with `whole` all of it and every lane.
template <int kTile, bool whole, bool adds, After after>
CONVCORE_INLINE void transform_tile(const float* m, int64_t point, Finish& finish, float* out, int64_t offset,
                                    int64_t row_stride, int64_t pixel, int64_t rows, int64_t columns, int64_t lanes) {
  constexpr int kIn = input_of(kTile);
  Vec t[kTile][kIn];
#pragma GCC unroll 6
  for (int j = 0; j < kIn; j++) {
    Vec column[kIn], values[kTile];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; i++) column[i] = load(m + (i * kIn + j) * point);
    winograd_output(column, Vec{}, values);
#pragma GCC unroll 4
    for (int i = 0; i < kTile; i++) t[i][j] = values[i];
  }
  TileSums sums;
#pragma GCC unroll 4
  for (int i = 0; i < kTile; i++) {
    if (!whole && i >= rows) break;
    Vec y[kTile];
    winograd_output(t[i], finish.bias, y);
#pragma GCC unroll 4
    for (int j = 0; j < kTile; j++) {
      const int64_t at = offset + i * row_stride + j * pixel;
      if (!whole && j >= columns) continue;
      const Vec result = finished<whole, adds, after>(y[j], finish, at, lanes, sums);
      if constexpr (whole)
        store(out + at, result);
      else
        store_partial(out + at, result, lanes);
    }
  }
  finish.sum_dz += sums.dz, finish.sum_dz_x += sums.dz_x;
}

template <int kTile>
int64_t output_at(const WinogradShape& s, const Place& at) {
  return ((at.n * s.h_out + kTile * at.row) * s.w_out + kTile * at.column) * s.c_out;
}

CONVCORE_INLINE void add_sums(Vec v, double* to, int64_t lanes) {
  const Wide wide = widen(v);
  add_doubles(to, wide.low, wide.high, lanes);
}

template <int kTile, bool adds, After after>
__attribute__((noinline)) void transform_output(const WinogradShape& s, const Layout& layout, const Block& block,
                                                const float* m, int64_t k_begin, int64_t k_end, const ConvEpilogue& e,
                                                float* out) {
  constexpr bool kSums = after == After::sums || after == After::masked_sums;
  for (int64_t k = k_begin; k < k_end; k++) {
    const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
    Finish finish{e.bias ? load_partial(e.bias + k * kLanes, lanes) : Vec{}, e.add, e.sums.x, e.sums.y, {}, {}, {}};
    if (kSums) finish.mean = load_partial(e.sums.mean + k * kLanes, lanes);
    for (int64_t t = 0; t < block.count; t++) {
      const Place& at = block.at[t];
      const int64_t rows = s.h_out - kTile * at.row, columns = s.w_out - kTile * at.column;
      const float* from = m + (k - k_begin) * layout.vector + t * kLanes;
      const int64_t offset = output_at<kTile>(s, at) + k * kLanes, row = s.w_out * s.c_out;
      if (rows >= kTile && columns >= kTile && lanes == kLanes)
        transform_tile<kTile, true, adds, after>(from, layout.point, finish, out, offset, row, s.c_out, kTile, kTile,
                                                 kLanes);
      else
        transform_tile<kTile, false, adds, after>(from, layout.point, finish, out, offset, row, s.c_out, rows, columns,
                                                  lanes);
    }
    if (kSums) {
      add_sums(finish.sum_dz, e.sums.sum_dz + k * kLanes, lanes);
      add_sums(finish.sum_dz_x, e.sums.sum_dz_x + k * kLanes, lanes);
    }
  }
}

template <int kTile, bool adds>
auto output_transform(const ConvEpilogue& e) {
  if (e.sums.x)
    return e.sums.y ? transform_output<kTile, adds, After::masked_sums> : transform_output<kTile, adds, After::sums>;
  return e.relu ? transform_output<kTile, adds, After::relu> : transform_output<kTile, adds, After::nothing>;
}

// ---- prefetch -----------------------------------------------------------------------------------------------------

constexpr int64_t kLineFloats = kAlignment / sizeof(float);

// The rows of pixels, as large as an output tile, that each tile of a block adds to what is cached: of the input those
// that neither the tile above nor the one to the left has read, of the output those it writes. Fetched at an even pace
// over the points.
template <int kTile>
struct Prefetch {
  static constexpr int kPoints = points_of(kTile);
  static constexpr int64_t kMostRows = (kTile * kLargeBlock + kPoints - 1) / kPoints * kPoints;
  int64_t rows[kMostRows];         // where they begin, in floats
  int64_t rows_per_point, floats;  // floats of a row

  // The images are (n, h, w, channels), and tile (0, 0) begins at pixel (h0, w0).
  void set(const Block& block, int64_t n, int64_t h, int64_t w, int64_t channels, int64_t h0, int64_t w0) {
    rows_per_point = max_of<int64_t>(1, (kTile * block.count + kPoints - 1) / kPoints);  // behind the last block: row 0
    floats = kTile * channels;
    const int64_t end = max_of<int64_t>(0, n * h * w - kTile);
    int64_t i = 0;
    for (int64_t t = 0; t < block.count; t++)
      for (int64_t r = 0; r < kTile; r++) {
        const Place& at = block.at[t];
        const int64_t pixel = (at.n * h + kTile * at.row + h0 + r) * w + kTile * at.column + w0;
        rows[i++] = min_of(max_of<int64_t>(0, pixel), end) * channels;
      }
    for (; i < rows_per_point * kPoints; i++) rows[i] = 0;
  }
  template <bool write>
  inline __attribute__((always_inline)) void fetch(const float* images, int64_t point) const {
    const int64_t* row = rows + point * rows_per_point;
    fetch_row<write>(images + row[0]);  // small blocks have few rows per point
    for (int64_t i = 1; i < rows_per_point; i++) fetch_row<write>(images + row[i]);
  }

 private:
  template <bool write>
  inline __attribute__((always_inline)) void fetch_row(const float* row) const {
    int64_t l = 0;
    do {
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++, l += kLineFloats) __builtin_prefetch(row + l, write, 2);
    } while (l < floats);
  }
};

template <int kTile>
void convolve(const WinogradShape& s, const float* in, const float* u, const ConvEpilogue& e, float* out) {
  constexpr int kPoints = points_of(kTile);
  const Layout layout(s);
  const auto output = e.add ? output_transform<kTile, true>(e) : output_transform<kTile, false>(e);
  const int64_t u_point = filter_point(s);
  const int64_t work = layout.block * kPoints * layout.share * (s.c_in + 16);
  const auto run = [&](int64_t begin, int64_t end) {
    const int64_t zeros_size = zero_floats(s, layout);
    float* zeros =
        static_cast<float*>(thread_workspace(0, size_t(zeros_size + (kPoints + 1) * layout.point) * sizeof(float)));
    float *low = zeros + zeros_size, *high = low + layout.point;
    memset(zeros, 0, size_t(zeros_size) * sizeof(float));
    Prefetch<kTile> next_input, output_rows;
    Ahead& next_images = ahead();
    const int64_t lines = lines_beside(layout.block * s.c_in * min_of(layout.share, layout.k_vectors));
    Block blocks[2];
    for (int64_t task = begin; task < end;) {  // the blocks of one share
      const int64_t share = task / layout.blocks, block_begin = task % layout.blocks;
      const int64_t block_end = min_of(layout.blocks, block_begin + end - task);
      const int64_t k = share * layout.share, k_end = min_of(k + layout.share, layout.k_vectors);
      Place place = layout.place(block_begin * layout.block);
      blocks[block_begin % 2].set(layout, s.n, place);
      for (int64_t i = block_begin; i < block_end; i++) {
        const Block& block = blocks[i % 2];
        Block& next = blocks[(i + 1) % 2];
        next.set(layout, s.n, place);
        const bool announced = next_images.count > 0;  // by a plan: this input is in the cache already
        if (!announced) next_input.set(next, s.n, s.h_in, s.w_in, s.c_in, 2 - s.pad_top, 2 - s.pad_left);
        output_rows.set(block, s.n, s.h_out, s.w_out, s.c_out, 0, 0);
        // Every other block goes through the points backwards: the filters used last are still in L1.
        const bool backwards = i % 2 != 0;
        float *v = backwards ? low : high, *m = backwards ? high : low;
        transform_input<kTile>(s, layout, block, in, zeros, v);
        for (int64_t number = 0; number < kPoints; number++) {
          const int64_t p = backwards ? kPoints - 1 - number : number;
          if (announced)
            fetch_ahead(next_images, lines);
          else
            next_input.template fetch<false>(in, number);
          output_rows.template fetch<true>(out, number);
          if (e.add) output_rows.template fetch<false>(e.add, number);
          if (e.sums.x) output_rows.template fetch<false>(e.sums.x, number);
          const float *vp = v + p * layout.point, *up = u + p * u_point + k * kLanes * s.c_in;
          float* mp = m + p * layout.point;
          product<false>(vp, up, 0, min_of(kDepth, s.c_in), s.c_in, k_end - k, mp, layout.vector);
          for (int64_t c = kDepth; c < s.c_in; c += kDepth)
            product<true>(vp, up, c, min_of(c + kDepth, s.c_in), s.c_in, k_end - k, mp, layout.vector);
        }
        output(s, layout, block, m, k, k_end, e, out);
      }
      task += block_end - block_begin;
    }
  };
  const int64_t tasks = layout.shares * layout.blocks;
  e.sums.x ? run(0, tasks) : parallel_for(tasks, work, run);  // one thread sums, in the order of the tiles
}

}  // namespace

void winograd_convolve(const WinogradShape& s, const float* in, const float* u, const ConvEpilogue& e, float* out) {
  (s.tile == 4 ? convolve<4> : convolve<2>)(s, in, u, e, out);
}

// ---- filters ------------------------------------------------------------------------------------------------------

// One input channel: U[p] for a vector of output channels. Rotated by 180 degrees, tap t is tap 8 - t.
template <int kIn>
CONVCORE_INLINE void transform_filter(const float (&taps)[9][kLanes], bool rotated, float* u, int64_t point) {
  const int first = rotated ? 8 : 0, step = rotated ? -1 : 1;
  Vec columns[3][kIn];
#pragma GCC unroll 3
  for (int j = 0; j < 3; j++)
    winograd_filter(load(taps[first + j * step]), load(taps[first + (3 + j) * step]),
                    load(taps[first + (6 + j) * step]), columns[j]);
#pragma GCC unroll 6
  for (int i = 0; i < kIn; i++) {
    Vec row[kIn];
    winograd_filter(columns[0][i], columns[1][i], columns[2][i], row);
#pragma GCC unroll 6
    for (int j = 0; j < kIn; j++) store(u + (i * kIn + j) * point, row[j]);
  }
}

int64_t winograd_filter_floats(const WinogradShape& s) { return points_of(int(s.tile)) * filter_point(s); }

template <int kTile>
static void transform_filters(const WinogradShape& s, const float* w, float* u) {
  constexpr int64_t kChunk = 16;  // input channels turned at once: their taps, 9 KiB, stay in L1
  const int64_t k_vectors = vectors(s.c_out), chunks = (s.c_in + kChunk - 1) / kChunk, point = filter_point(s);
  parallel_for(k_vectors * chunks, kChunk * 200, [&](int64_t begin, int64_t end) {
    float taps[kChunk][9][kLanes] = {};  // of one vector of output channels; lanes past them stay zero
    for (int64_t task = begin; task < end; task++) {
      const int64_t k = task / chunks, c_begin = task % chunks * kChunk, count = min_of(kChunk, s.c_in - c_begin);
      const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
      if (lanes < kLanes) memset(taps, 0, sizeof taps);
      if (!s.backward) {  // w is (c_out, c_in, 3, 3): the taps of a chunk lie side by side
        transpose_matrix(lanes, count * 9, w + (k * kLanes * s.c_in + c_begin) * 9, s.c_in * 9, taps[0][0], kLanes);
      } else {  // w is (c_in, c_out, 3, 3)
        for (int64_t c = 0; c < count; c++)
          transpose_matrix(lanes, 9, w + ((c_begin + c) * s.c_out + k * kLanes) * 9, 9, taps[c][0], kLanes);
      }
      const bool single = k % 2 == 0 && k + 1 == k_vectors;
      float* to = u + k / 2 * 2 * kLanes * s.c_in + k % 2 * kLanes;
      for (int64_t c = 0; c < count; c++)
        transform_filter<input_of(kTile)>(taps[c], s.backward, to + (c_begin + c) * (single ? 1 : 2) * kLanes, point);
    }
  });
}

void winograd_transform_filters(const WinogradShape& s, const float* w, float* u) {
  (s.tile == 4 ? transform_filters<4> : transform_filters<2>)(s, w, u);
}

// ---- the passes of conv2d -----------------------------------------------------------------------------------------

WinogradShape winograd_forward_shape(const Conv2dShape& s, int tile) {
  return {s.n,  s.h_in, s.w_in, s.c_in, s.h_out, s.w_out, s.c_out, s.window.h.pad_before, s.window.w.pad_before,
          tile, false};
}

WinogradShape winograd_backward_input_shape(const Conv2dShape& s, int tile) {
  return {s.n,  s.h_out, s.w_out, s.c_out, s.h_in, s.w_in, s.c_in, 2 - s.window.h.pad_before, 2 - s.window.w.pad_before,
          tile, true};
}

static void transform_and_convolve(const WinogradShape& s, const float* in, const float* w, const float* bias,
                                   float* out) {
  const ScratchBlock filters(size_t(winograd_filter_floats(s)) * sizeof(float));
  float* u = static_cast<float*>(filters.data());
  winograd_transform_filters(s, w, u);
  winograd_convolve(s, in, u, {bias, nullptr, false}, out);
}

void winograd_forward(const Conv2dShape& s, int tile, const float* x, const float* w, const float* b, float* y) {
  transform_and_convolve(winograd_forward_shape(s, tile), x, w, b, y);
}

void winograd_backward_input(const Conv2dShape& s, int tile, const float* dy, const float* w, float* dx) {
  transform_and_convolve(winograd_backward_input_shape(s, tile), dy, w, nullptr, dx);
}

}  // namespace convcore::cpu::CONVCORE_ISA

// Winograd's convolution, fused: each thread takes a block of tiles from the input to the output on its own.
//
//   gather and transform the input of the block            V[p][slot][channel vector][tile][lane]
//   a product for each of the 9 to 36 points                M[p][slot][channel vector][tile][lane]
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

// The sizes of an algorithm, along one axis. With stride 2 the phases of the input (forward) or of the result (gradient
// of the input) are as many convolutions of stride 1.
template <int tile, int taps, int stride, bool backward>
struct Scheme {
  static constexpr int kTile = tile, kTaps = taps, kStride = stride;
  static constexpr int kPoints = tile + (taps + stride - 1) / stride - 1;
  static constexpr int kInPhases = backward ? 1 : stride, kOutPhases = backward ? stride : 1;
};

// What a point of V or M holds: one slot, or one for each pair of phases, of rows and columns, that has this point:
// phase 1 has no value at infinity, the last point. In the order of the pairs.
constexpr int64_t slots_of(int phases, int points, int64_t p) {
  if (phases == 1) return 1;
  return (p / points == points - 1 ? 1 : 2) * (p % points == points - 1 ? 1 : 2);
}
constexpr int64_t slot_of(int row_phase, int column_phase, bool last_column) {
  return last_column ? row_phase : 2 * row_phase + column_phase;
}

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

// Phases of the input and of the output, as in Scheme.
int64_t in_phases(const WinogradShape& s) { return s.backward ? 1 : s.stride; }
int64_t out_phases(const WinogradShape& s) { return s.backward ? s.stride : 1; }
int64_t points_of(const WinogradShape& s) {
  const int64_t axis = s.tile + (s.taps + s.stride - 1) / s.stride - 1;
  return axis * axis;
}

// U[p][slot of the output][pair of vectors of output channels][slot of the input, channel][vector][lane], the last
// vector alone where their number is odd. Slots of the input are whole vectors of channels, the last ones zeros.
int64_t filter_rows(const WinogradShape& s) { return in_phases(s) == 1 ? s.c_in : vectors(s.c_in) * kLanes; }
int64_t filter_slot(const WinogradShape& s) { return vectors(s.c_out) * kLanes * filter_rows(s); }
int64_t filter_point(const WinogradShape& s) { return s.stride * s.stride * filter_slot(s) + kPad; }

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
  int64_t in_slot;        // floats from one slot of V to the next
  int64_t out_slot;       // floats from one slot of M to the next
  int64_t point;          // floats from one point to the next

  explicit Layout(const WinogradShape& s)
      : rows(tiles_along(s, s.h_out - s.out_top)),
        columns(tiles_along(s, s.w_out - s.out_left)),
        tiles(s.n * rows * columns),
        c_vectors(vectors(s.c_in)),
        k_vectors(vectors(s.c_out)) {
    const bool cached = points_of(s) * filter_point(s) <= kCachedFloats;
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
    in_slot = c_vectors * vector, out_slot = share * vector;
    point = max_of(in_phases(s) * in_phases(s) * in_slot, out_phases(s) * out_phases(s) * out_slot) + kPad;
  }
  static int64_t tiles_along(const WinogradShape& s, int64_t pixels) {
    const int64_t step = out_phases(s) * s.tile;
    return (pixels + step - 1) / step;
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

template <typename S, bool whole, int row_phase, int column_phase, int pair = row_phase>
void transform_channels(const Strip<S::kPoints>& s, int64_t channel, int64_t lanes, const Layout& layout, float* v) {
  constexpr int kPoints = S::kPoints, kFirst = first_point(kPoints, pair), kSecond = second_point(kPoints, pair);
  const int64_t point = layout.point, slot = slot_of(row_phase, column_phase, false) * layout.in_slot;
  const int64_t last = (kPoints - 1) * point + slot_of(row_phase, column_phase, true) * layout.in_slot - slot;
  transform_strip<pair, whole, S::kTile, kPoints - column_phase>(s, channel, lanes, v + kFirst * kPoints * point + slot,
                                                                 v + kSecond * kPoints * point + slot, point, last);
  if constexpr (pair + 1 < pairs_of(kPoints))
    transform_channels<S, whole, row_phase, column_phase, pair + 1>(s, channel, lanes, layout, v);
}

// The longest strip of zeros that a row outside the image stands for.
int64_t zero_floats(const WinogradShape& s, const Layout& layout) {
  const int64_t seen = in_phases(s) * s.tile * min_of(layout.block, layout.columns) + s.taps - 1;
  return (min_of(seen, s.w_in) * s.c_in + kPad - 1) / kPad * kPad;
}

// For one pair of phases of the input, and for those after it.
template <typename S, int row_phase = 0, int column_phase = 0>
void transform_input(const WinogradShape& s, const Layout& layout, const Block& block, const float* in,
                     const float* zeros, float* v) {
  constexpr int kStep = S::kTile * S::kInPhases;
  for (int64_t t = 0, run; t < block.count; t += run) {
    const Place& place = block.at[t];
    run = min_of(block.count - t, layout.columns - place.column);
    const auto strip = strip_at<S::kPoints>(in + place.n * s.h_in * s.w_in * s.c_in, s.h_in, s.w_in, s.c_in,
                                            kStep * place.row - s.pad_top + row_phase,
                                            kStep * place.column - s.pad_left + column_phase, S::kInPhases, run, zeros);
    for (int64_t c = 0; c < layout.c_vectors; c++) {
      const int64_t lanes = s.c_in - c * kLanes;
      float* to = v + c * layout.vector + t * kLanes;
      if (lanes >= kLanes)
        transform_channels<S, true, row_phase, column_phase>(strip, c * kLanes, kLanes, layout, to);
      else
        transform_channels<S, false, row_phase, column_phase>(strip, c * kLanes, lanes, layout, to);
    }
  }
  if constexpr (column_phase + 1 < S::kInPhases)
    transform_input<S, row_phase, column_phase + 1>(s, layout, block, in, zeros, v);
  else if constexpr (row_phase + 1 < S::kInPhases)
    transform_input<S, row_phase + 1, 0>(s, layout, block, in, zeros, v);
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

// Rows or columns begin .. end - 1 of a tile lie inside the image.
struct Inside {
  int64_t begin, end;
  bool whole(int tile) const { return begin == 0 && end >= tile; }
};

// `first`: the place of row 0, `step`: from row to row. Only the first may lie before the image.
Inside inside_of(int64_t first, int64_t step, int64_t size) { return {first < 0, (size - first + step - 1) / step}; }

// One output tile of a pair of phases; with `whole` all of it and every lane lies inside. M at the last column of
// points is `last` floats behind the first.
template <typename S, int row_phase, int column_phase, bool whole, bool adds, After after>
CONVCORE_INLINE void transform_tile(const float* m, int64_t point, int64_t last, Finish& finish, float* out,
                                    int64_t offset, int64_t row_stride, int64_t pixel, Inside rows, Inside columns,
                                    int64_t lanes) {
  constexpr int kTile = S::kTile, kPoints = S::kPoints;
  Vec t[kTile][kPoints];
#pragma GCC unroll 6
  for (int j = 0; j < kPoints - column_phase; j++) {
    Vec column[kPoints], values[kTile];
#pragma GCC unroll 6
    for (int i = 0; i < kPoints - row_phase; i++)
      column[i] = load(m + i * kPoints * point + (j == kPoints - 1 ? last : j * point));
    winograd_output<row_phase == 0>(column, Vec{}, values);
#pragma GCC unroll 4
    for (int i = 0; i < kTile; i++) t[i][j] = values[i];
  }
  TileSums sums;
#pragma GCC unroll 4
  for (int i = 0; i < kTile; i++) {
    if (!whole && (i < rows.begin || i >= rows.end)) continue;
    Vec y[kTile];
    winograd_output<column_phase == 0>(t[i], finish.bias, y);
#pragma GCC unroll 4
    for (int j = 0; j < kTile; j++) {
      const int64_t at = offset + i * row_stride + j * pixel;
      if (!whole && (j < columns.begin || j >= columns.end)) continue;
      const Vec result = finished<whole, adds, after>(y[j], finish, at, lanes, sums);
      if constexpr (whole)
        store(out + at, result);
      else
        store_partial(out + at, result, lanes);
    }
  }
  finish.sum_dz += sums.dz, finish.sum_dz_x += sums.dz_x;
}

CONVCORE_INLINE void add_sums(Vec v, double* to, int64_t lanes) {
  const Wide wide = widen(v);
  add_doubles(to, wide.low, wide.high, lanes);
}

// For one pair of phases of the output, and for those after it. The first tap of phase 0 meets the pixel after the one
// of phase 1.
template <typename S, bool adds, After after, int row_phase = 0, int column_phase = 0>
__attribute__((noinline)) void transform_output(const WinogradShape& s, const Layout& layout, const Block& block,
                                                const float* m, int64_t k_begin, int64_t k_end, const ConvEpilogue& e,
                                                float* out) {
  constexpr bool kSums = after == After::sums || after == After::masked_sums;
  constexpr int kTile = S::kTile, kPhases = S::kOutPhases, kStep = kTile * kPhases;
  const int64_t slot = slot_of(row_phase, column_phase, false) * layout.out_slot;
  const int64_t last =
      (S::kPoints - 1) * layout.point + slot_of(row_phase, column_phase, true) * layout.out_slot - slot;
  const int64_t row_stride = kPhases * s.w_out * s.c_out, pixel = kPhases * s.c_out;
  for (int64_t k = k_begin; k < k_end; k++) {
    const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
    Finish finish{e.bias ? load_partial(e.bias + k * kLanes, lanes) : Vec{}, e.add, e.sums.x, e.sums.y, {}, {}, {}};
    if (kSums) finish.mean = load_partial(e.sums.mean + k * kLanes, lanes);
    for (int64_t t = 0; t < block.count; t++) {
      const Place& place = block.at[t];
      const int64_t h = kStep * place.row + s.out_top + kPhases - 1 - row_phase;
      const int64_t w = kStep * place.column + s.out_left + kPhases - 1 - column_phase;
      const Inside rows = inside_of(h, kPhases, s.h_out), columns = inside_of(w, kPhases, s.w_out);
      const float* from = m + slot + (k - k_begin) * layout.vector + t * kLanes;
      const int64_t offset = ((place.n * s.h_out + h) * s.w_out + w) * s.c_out + k * kLanes;
      if (rows.whole(kTile) && columns.whole(kTile) && lanes == kLanes)
        transform_tile<S, row_phase, column_phase, true, adds, after>(from, layout.point, last, finish, out, offset,
                                                                      row_stride, pixel, rows, columns, kLanes);
      else
        transform_tile<S, row_phase, column_phase, false, adds, after>(from, layout.point, last, finish, out, offset,
                                                                       row_stride, pixel, rows, columns, lanes);
    }
    if (kSums) {
      add_sums(finish.sum_dz, e.sums.sum_dz + k * kLanes, lanes);
      add_sums(finish.sum_dz_x, e.sums.sum_dz_x + k * kLanes, lanes);
    }
  }
  if constexpr (column_phase + 1 < kPhases)
    transform_output<S, adds, after, row_phase, column_phase + 1>(s, layout, block, m, k_begin, k_end, e, out);
  else if constexpr (row_phase + 1 < kPhases)
    transform_output<S, adds, after, row_phase + 1, 0>(s, layout, block, m, k_begin, k_end, e, out);
}

template <typename S, bool adds>
auto output_transform(const ConvEpilogue& e) {
  if (e.sums.x)
    return e.sums.y ? transform_output<S, adds, After::masked_sums> : transform_output<S, adds, After::sums>;
  return e.relu ? transform_output<S, adds, After::relu> : transform_output<S, adds, After::nothing>;
}

// ---- prefetch -----------------------------------------------------------------------------------------------------

constexpr int64_t kLineFloats = kAlignment / sizeof(float);

// The rows of pixels, kStep of kStep pixels, that each tile of a block adds to what is cached: of the input those that
// neither the tile above nor the one to the left has read, of the output those it writes. Fetched at an even pace over
// the points.
template <int kStep, int kPoints>
struct Prefetch {
  static constexpr int64_t kMostRows = (kStep * kLargeBlock + kPoints - 1) / kPoints * kPoints;
  int64_t rows[kMostRows];         // where they begin, in floats
  int64_t rows_per_point, floats;  // floats of a row

  // The images are (n, h, w, channels), and tile (0, 0) begins at pixel (h0, w0).
  void set(const Block& block, int64_t n, int64_t h, int64_t w, int64_t channels, int64_t h0, int64_t w0) {
    rows_per_point = max_of<int64_t>(1, (kStep * block.count + kPoints - 1) / kPoints);  // behind the last block: row 0
    floats = kStep * channels;
    const int64_t end = max_of<int64_t>(0, n * h * w - kStep);
    int64_t i = 0;
    for (int64_t t = 0; t < block.count; t++)
      for (int64_t r = 0; r < kStep; r++) {
        const Place& at = block.at[t];
        const int64_t pixel = (at.n * h + kStep * at.row + h0 + r) * w + kStep * at.column + w0;
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

// M[p] = V[p] U[p] for the vectors k_begin .. k_end - 1 of output channels, slot by slot.
template <typename S>
void multiply(const WinogradShape& s, const Layout& layout, int64_t p, const float* v, const float* u, int64_t k_begin,
              int64_t k_end, float* m) {
  const int64_t depth = slots_of(S::kInPhases, S::kPoints, p) * filter_rows(s), slot = filter_slot(s);
  for (int64_t out = 0; out < slots_of(S::kOutPhases, S::kPoints, p); out++, u += slot, m += layout.out_slot) {
    const float* filters = u + k_begin * kLanes * depth;
    product<false>(v, filters, 0, min_of(kDepth, depth), depth, k_end - k_begin, m, layout.vector);
    for (int64_t c = kDepth; c < depth; c += kDepth)
      product<true>(v, filters, c, min_of(c + kDepth, depth), depth, k_end - k_begin, m, layout.vector);
  }
}

template <typename S>
void convolve(const WinogradShape& s, const float* in, const float* u, const ConvEpilogue& e, float* out) {
  constexpr int kPoints = S::kPoints * S::kPoints, kInStep = S::kTile * S::kInPhases,
                kOutStep = S::kTile * S::kOutPhases;
  constexpr int kNewInput = (S::kPoints - S::kTile) * S::kInPhases;  // rows of its input that a tile shares
  const Layout layout(s);
  const auto output = e.add ? output_transform<S, true>(e) : output_transform<S, false>(e);
  const int64_t u_point = filter_point(s);
  const int64_t work = layout.block * kPoints * layout.share * (s.stride * s.stride * s.c_in + 16);
  const auto run = [&](int64_t begin, int64_t end) {
    const int64_t zeros_size = zero_floats(s, layout);
    float* zeros =
        static_cast<float*>(thread_workspace(0, size_t(zeros_size + (kPoints + 1) * layout.point) * sizeof(float)));
    float *low = zeros + zeros_size, *high = low + layout.point;
    memset(zeros, 0, size_t(zeros_size) * sizeof(float));
    Prefetch<kInStep, kPoints> next_input;
    Prefetch<kOutStep, kPoints> output_rows;
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
        if (!announced)
          next_input.set(next, s.n, s.h_in, s.w_in, s.c_in, kNewInput - s.pad_top, kNewInput - s.pad_left);
        output_rows.set(block, s.n, s.h_out, s.w_out, s.c_out, 0, 0);
        // Every other block goes through the points backwards: the filters used last are still in L1.
        const bool backwards = i % 2 != 0;
        float *v = backwards ? low : high, *m = backwards ? high : low;
        transform_input<S>(s, layout, block, in, zeros, v);
        for (int64_t number = 0; number < kPoints; number++) {
          const int64_t p = backwards ? kPoints - 1 - number : number;
          if (announced)
            fetch_ahead(next_images, lines);
          else
            next_input.template fetch<false>(in, number);
          output_rows.template fetch<true>(out, number);
          if (e.add) output_rows.template fetch<false>(e.add, number);
          if (e.sums.x) output_rows.template fetch<false>(e.sums.x, number);
          multiply<S>(s, layout, p, v + p * layout.point, u + p * u_point, k, k_end, m + p * layout.point);
        }
        output(s, layout, block, m, k, k_end, e, out);
      }
      task += block_end - block_begin;
    }
  };
  const int64_t tasks = layout.shares * layout.blocks;
  e.sums.x ? run(0, tasks) : parallel_for(tasks, work, run);  // one thread sums, in the order of the tiles
}

// f(Scheme) of a shape.
template <typename F>
void with_scheme(const WinogradShape& s, const F& f) {
  if (s.taps == 5) return f(Scheme<2, 5, 1, false>{});
  if (s.stride == 1) return s.tile == 4 ? f(Scheme<4, 3, 1, false>{}) : f(Scheme<2, 3, 1, false>{});
  if (s.backward) return s.tile == 4 ? f(Scheme<4, 3, 2, true>{}) : f(Scheme<2, 3, 2, true>{});
  s.tile == 4 ? f(Scheme<4, 3, 2, false>{}) : f(Scheme<2, 3, 2, false>{});
}

}  // namespace

void winograd_convolve(const WinogradShape& s, const float* in, const float* u, const ConvEpilogue& e, float* out) {
  with_scheme(s, [&](auto scheme) { convolve<decltype(scheme)>(s, in, u, e, out); });
}

// ---- filters ------------------------------------------------------------------------------------------------------

namespace {

// Along an axis: u[phase] = the values at the points.
template <int kPoints, int kTaps>
CONVCORE_INLINE void filter_phases(const Vec (&g)[kTaps], Vec (&u)[1][kPoints]) {
  winograd_filter(g, u[0]);
}
template <int kPoints>
CONVCORE_INLINE void filter_phases(const Vec (&g)[3], Vec (&u)[2][kPoints]) {
  winograd_filter({g[0], g[2]}, u[0]);
  winograd_filter({g[1], Vec{}}, u[1]);
}

// One input channel and a vector of output channels: to(row, column, row phase, column phase) is where the values at a
// point go. Rotated by 180 degrees, tap t is tap taps - 1 - t.
template <typename S, typename To>
CONVCORE_INLINE void transform_filter(const float (*taps)[kLanes], bool rotated, const To& to) {
  constexpr int kTaps = S::kTaps, kPoints = S::kPoints, kPhases = S::kStride;
  const int first = rotated ? kTaps * kTaps - 1 : 0, step = rotated ? -1 : 1;
  Vec columns[kTaps][kPhases][kPoints];
#pragma GCC unroll 5
  for (int j = 0; j < kTaps; j++) {
    Vec g[kTaps];
#pragma GCC unroll 5
    for (int i = 0; i < kTaps; i++) g[i] = load(taps[first + (i * kTaps + j) * step]);
    filter_phases(g, columns[j]);
  }
#pragma GCC unroll 2
  for (int e = 0; e < kPhases; e++)
#pragma GCC unroll 6
    for (int i = 0; i < kPoints - e; i++) {
      Vec g[kTaps], row[kPhases][kPoints];
#pragma GCC unroll 5
      for (int j = 0; j < kTaps; j++) g[j] = columns[j][e][i];
      filter_phases(g, row);
#pragma GCC unroll 2
      for (int f = 0; f < kPhases; f++)
#pragma GCC unroll 6
        for (int j = 0; j < kPoints - f; j++) store(to(i, j, e, f), row[f][j]);
    }
}

// Where in U the values of input channel c and output vector k lie.
template <typename S>
struct FilterPlaces {
  static constexpr int kPoints = S::kPoints;
  int64_t vectors, rows, slot, point;
  explicit FilterPlaces(const WinogradShape& s)
      : vectors((s.c_out + kLanes - 1) / kLanes), rows(filter_rows(s)), slot(filter_slot(s)), point(filter_point(s)) {}

  int64_t at(int64_t c, int64_t k, int i, int j, int e, int f) const {
    const int64_t p = i * kPoints + j, number = S::kStride == 1 ? 0 : slot_of(e, f, j == kPoints - 1);
    const int64_t in = S::kInPhases > 1 ? number : 0, out = S::kOutPhases > 1 ? number : 0;
    const int64_t depth = slots_of(S::kInPhases, kPoints, p) * rows;
    const bool single = k % 2 == 0 && k + 1 == vectors;
    return p * point + out * slot + k / 2 * 2 * kLanes * depth + k % 2 * kLanes +
           (in * rows + c) * (single ? 1 : 2) * kLanes;
  }
};

template <typename S>
void transform_filters(const WinogradShape& s, const float* w, float* u) {
  constexpr int64_t kChunk = 16;  // input channels turned at once: their taps, 9 KiB of 3x3, stay in L1
  constexpr int kTaps = S::kTaps * S::kTaps;
  const FilterPlaces<S> places(s);
  const int64_t chunks = (places.rows + kChunk - 1) / kChunk;
  parallel_for(places.vectors * chunks, kChunk * 200, [&](int64_t begin, int64_t end) {
    float taps[kChunk][kTaps][kLanes] = {};  // of one vector of output channels; lanes past them stay zero
    for (int64_t task = begin; task < end; task++) {
      const int64_t k = task / chunks, c_begin = task % chunks * kChunk;
      const int64_t count = min_of(kChunk, s.c_in - c_begin), rows = min_of(kChunk, places.rows - c_begin);
      const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
      if (lanes < kLanes || count < rows) memset(taps, 0, sizeof taps);
      if (!s.backward) {  // w is (c_out, c_in, taps): the taps of a chunk lie side by side
        transpose_matrix(lanes, count * kTaps, w + (k * kLanes * s.c_in + c_begin) * kTaps, s.c_in * kTaps, taps[0][0],
                         kLanes);
      } else {  // w is (c_in, c_out, taps)
        for (int64_t c = 0; c < count; c++)
          transpose_matrix(lanes, kTaps, w + ((c_begin + c) * s.c_out + k * kLanes) * kTaps, kTaps, taps[c][0], kLanes);
      }
      for (int64_t c = 0; c < rows; c++)
        transform_filter<S>(taps[c], s.backward, [&](int i, int j, int e, int f) __attribute__((always_inline)) {
          return u + places.at(c_begin + c, k, i, j, e, f);
        });
    }
  });
}

}  // namespace

int64_t winograd_filter_floats(const WinogradShape& s) { return points_of(s) * filter_point(s); }

void winograd_transform_filters(const WinogradShape& s, const float* w, float* u) {
  with_scheme(s, [&](auto scheme) { transform_filters<decltype(scheme)>(s, w, u); });
}

// ---- the passes of conv2d -----------------------------------------------------------------------------------------

WinogradShape winograd_forward_shape(const Conv2dShape& s, int tile) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  return {s.n,      s.h_in,       s.w_in,       s.c_in, s.h_out, s.w_out,
          s.c_out,  h.pad_before, w.pad_before, 0,      0,       h.kernel == 5 ? 2 : tile,
          h.kernel, h.stride,     false};
}

namespace {

// Along an axis of dx: where tile 0 begins in dy (so many pixels before it), and in dx. With stride 2, row a of phase 1
// is 2a + first, of phase 0 one more, and both see dy from row a - pad on.
struct InputTiles {
  int64_t pad, first;
  explicit InputTiles(const WindowAxis& w) {
    if (w.stride == 1) {
      pad = w.kernel - 1 - w.pad_before, first = 0;
    } else {
      pad = w.pad_before == 0, first = w.pad_before % 2 - 1;
    }
  }
};

}  // namespace

WinogradShape winograd_backward_input_shape(const Conv2dShape& s, int tile) {
  const InputTiles h(s.window.h), w(s.window.w);
  return {s.n,
          s.h_out,
          s.w_out,
          s.c_out,
          s.h_in,
          s.w_in,
          s.c_in,
          h.pad,
          w.pad,
          h.first,
          w.first,
          s.window.h.kernel == 5 ? 2 : tile,
          s.window.h.kernel,
          s.window.h.stride,
          true};
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

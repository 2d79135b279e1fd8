// The convolution by F(4x4, 3x3), fused: each thread takes a block of tiles from the input to the output on its own.
//
//   gather and transform the input of the block            V[p][channel vector][tile][lane]
//   36 products, one per point                              M[p][channel vector][tile][lane]
//   transform and scatter the output
//
// V and M of a block stay in the caches nearest to the core; for the whole batch they would be 2.25 times the images,
// read and written twice. M[p] is written where V[p - 1] was, so that one buffer holds both.
//
// While a core computes the products, which need no memory beyond its caches, it prefetches the input of the next block
// and the lines of the output that this block will write.
#include "cpu/conv2d/winograd.h"

#include "core/allocator.h"
#include "core/threads.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kPoints = 36;
constexpr int64_t kPad = kAlignment / sizeof(float);  // between points: 36 streams a power of two apart share few sets

#ifndef WT
#define WT 16
#endif
constexpr int64_t kBlockTiles = WT;

// Register tile of the products: kRows<V> tiles times V vectors of output channels, summed over the input channels.
// Per step V loads and one broadcast per row; with 32 registers 24 sums + 2 vectors + 1 broadcast, with 16 12 + 2 + 1.
constexpr int kPanelVecs = 2;
#ifndef WP1
#define WP1 16
#endif
#ifndef WP2
#define WP2 8
#endif
template <int V>
constexpr int kRows = kRegisters >= 32 ? (V == 1 ? WP1 : WP2) : (V == 1 ? 12 : 6);

int64_t vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// ---- the cut into tiles -------------------------------------------------------------------------------------------

struct Place {  // of a tile: image, and row and column counted in tiles
  int64_t n, row, column;
};

struct Tiles {
  int64_t rows, columns, count;
  explicit Tiles(const WinogradShape& s) : rows((s.h_out + 3) / 4), columns((s.w_out + 3) / 4) {
    count = s.n * rows * columns;
  }
};

struct Block {
  int64_t count;
  Place at[kBlockTiles];

  Block(const Tiles& tiles, int64_t index) : count(0) {
    const int64_t first = index * kBlockTiles;
    Place place{first / (tiles.rows * tiles.columns), first / tiles.columns % tiles.rows, first % tiles.columns};
    for (; count < kBlockTiles && first + count < tiles.count; count++) {
      at[count] = place;
      if (++place.column < tiles.columns) continue;
      place.column = 0;
      if (++place.row < tiles.rows) continue;
      place.row = 0, place.n++;
    }
  }
};

// Where the points of V and M lie.
struct Layout {
  int64_t c_vectors, k_vectors;
  int64_t vector;  // floats from one vector of channels to the next
  int64_t point;   // floats from one point to the next
  explicit Layout(const WinogradShape& s)
      : c_vectors(vectors(s.c_in)),
        k_vectors(vectors(s.c_out)),
        vector(kBlockTiles * kLanes),
        point(max_of(c_vectors, k_vectors) * vector + kPad) {}
};

// ---- input --------------------------------------------------------------------------------------------------------

// The input of tiles that are neighbours in a row: six rows of pixels, of which the columns `begin` to `end` exist.
// Rows outside the image point to zeros. Column 0 is the first that the first tile sees.
struct Strip {
  const float* row[6];  // at column `begin`
  int64_t begin, end, pixel;
  int64_t tiles;
};

template <bool whole>
CONVCORE_INLINE Vec load_lanes(const float* p, int64_t lanes) {
  if constexpr (whole) return load(p);
  return load_partial(p, lanes);
}

// The 1-D transform down the six rows, at one column.
template <int pair, bool whole>
CONVCORE_INLINE VecPair transform_column(const float* const (&row)[6], int64_t at, int64_t lanes) {
  const Vec d0 = pair == 0 ? load_lanes<whole>(row[0] + at, lanes) : Vec{};
  const Vec d5 = pair == 0 ? load_lanes<whole>(row[5] + at, lanes) : Vec{};
  return winograd_input_pair<pair>(d0, load_lanes<whole>(row[1] + at, lanes), load_lanes<whole>(row[2] + at, lanes),
                                   load_lanes<whole>(row[3] + at, lanes), load_lanes<whole>(row[4] + at, lanes), d5);
}

CONVCORE_INLINE void store_row(float* v, int64_t point, Vec d0, Vec d1, Vec d2, Vec d3, Vec d4, Vec d5) {
  const VecPair a = winograd_input_pair<0>(d0, d1, d2, d3, d4, d5);
  store(v, a.first), store(v + 5 * point, a.second);
  const VecPair b = winograd_input_pair<1>(d0, d1, d2, d3, d4, d5);
  store(v + point, b.first), store(v + 2 * point, b.second);
  const VecPair c = winograd_input_pair<2>(d0, d1, d2, d3, d4, d5);
  store(v + 3 * point, c.first), store(v + 4 * point, c.second);
}

// Two of the six rows of V for every tile of a strip: 12 registers of columns, the last two of a tile being the first
// two of the next.
template <int pair, bool whole>
void transform_strip(const Strip& s, int64_t channel, int64_t lanes, float* v, int64_t point) {
  const float* const row[6] = {s.row[0] + channel, s.row[1] + channel, s.row[2] + channel,
                               s.row[3] + channel, s.row[4] + channel, s.row[5] + channel};
  const int64_t begin = s.begin, end = s.end, pixel = s.pixel;
  const auto column = [&](int64_t j) {
    if (j < begin || j >= end) return VecPair{};
    return transform_column<pair, whole>(row, (j - begin) * pixel, lanes);
  };
  VecPair w0 = column(0), w1 = column(1);
  float *first = v + kPairPoints[pair][0] * 6 * point, *second = v + kPairPoints[pair][1] * 6 * point;
  for (int64_t t = 0, j = 2; t < s.tiles; t++, j += 4, first += kLanes, second += kLanes) {
    VecPair w2, w3, w4, w5;
    if (j >= begin && j + 4 <= end) {
      const int64_t at = (j - begin) * pixel;
      w2 = transform_column<pair, whole>(row, at, lanes);
      w3 = transform_column<pair, whole>(row, at + pixel, lanes);
      w4 = transform_column<pair, whole>(row, at + 2 * pixel, lanes);
      w5 = transform_column<pair, whole>(row, at + 3 * pixel, lanes);
    } else {
      w2 = column(j), w3 = column(j + 1), w4 = column(j + 2), w5 = column(j + 3);
    }
    store_row(first, point, w0.first, w1.first, w2.first, w3.first, w4.first, w5.first);
    store_row(second, point, w0.second, w1.second, w2.second, w3.second, w4.second, w5.second);
    w0 = w4, w1 = w5;
  }
}

template <bool whole>
void transform_channels(const Strip& s, int64_t channel, int64_t lanes, float* v, int64_t point) {
  transform_strip<0, whole>(s, channel, lanes, v, point);
  transform_strip<1, whole>(s, channel, lanes, v, point);
  transform_strip<2, whole>(s, channel, lanes, v, point);
}

int64_t zero_row_floats(const WinogradShape& s) { return (4 * kBlockTiles + 2) * s.c_in; }

void transform_input(const WinogradShape& s, const Tiles& tiles, const Layout& layout, const Block& block,
                     const float* in, const float* zeros, float* v) {
  for (int64_t t = 0, run; t < block.count; t += run) {
    const Place& place = block.at[t];
    run = min_of(block.count - t, tiles.columns - place.column);
    const int64_t h = 4 * place.row - s.pad_top, w = 4 * place.column - s.pad_left;
    Strip strip;
    strip.tiles = run, strip.pixel = s.c_in;
    strip.begin = max_of<int64_t>(0, -w), strip.end = s.w_in - w;
    for (int64_t i = 0; i < 6; i++) {
      const bool inside = 0 <= h + i && h + i < s.h_in;
      strip.row[i] = inside ? in + ((place.n * s.h_in + h + i) * s.w_in + w + strip.begin) * s.c_in : zeros;
    }
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

// m[q][r] = sum_c v[c / kLanes][r][c % kLanes] * u[c][q] for R tiles r and V vectors q.
template <int R, int V>
CONVCORE_INLINE void product_tile(const float* v, const float* u, int64_t c_in, float* m, int64_t vector) {
  Vec acc[R][V];
#pragma GCC unroll 32
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int q = 0; q < V; q++) acc[r][q] = Vec{};
  const auto add_channel = [&](int64_t c) __attribute__((always_inline)) {
    Vec b[V];
#pragma GCC unroll 4
    for (int q = 0; q < V; q++) b[q] = load(u + (c * V + q) * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const float a = v[r * kLanes + c];
#pragma GCC unroll 4
      for (int q = 0; q < V; q++) acc[r][q] += a * b[q];
    }
  };
  for (; c_in >= kLanes; c_in -= kLanes, v += vector, u += V * kLanes * kLanes)
#pragma GCC unroll 4
    for (int c = 0; c < kLanes; c++) add_channel(c);
  for (int64_t c = 0; c < c_in; c++) add_channel(c);
#pragma GCC unroll 4
  for (int q = 0; q < V; q++)
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) store(m + q * vector + r * kLanes, acc[r][q]);
}

template <int R, int V>
void product_panel(const float* v, const float* u, int64_t c_in, int64_t tiles, float* m, int64_t vector) {
  for (; tiles >= R; tiles -= R, v += R * kLanes, m += R * kLanes) product_tile<R, V>(v, u, c_in, m, vector);
  if constexpr (R > 1) {
    if (tiles > 0) product_panel<R / 2, V>(v, u, c_in, tiles, m, vector);
  }
}

// M[p] = V[p] U[p].
void product(const WinogradShape& s, const Layout& layout, int64_t tiles, const float* v, const float* u, float* m) {
  int64_t k = 0;
  for (; k + kPanelVecs <= layout.k_vectors; k += kPanelVecs)
    product_panel<kRows<kPanelVecs>, kPanelVecs>(v, u + k * kLanes * s.c_in, s.c_in, tiles, m + k * layout.vector,
                                                 layout.vector);
  if (k < layout.k_vectors)
    product_panel<kRows<1>, 1>(v, u + k * kLanes * s.c_in, s.c_in, tiles, m + k * layout.vector, layout.vector);
}

// ---- output -------------------------------------------------------------------------------------------------------

// Rows `half` and `half + 2` of an output tile. `rows` x `columns` of it lie inside the image.
template <int half, bool whole>
CONVCORE_INLINE void transform_tile_half(const float* m, int64_t point, Vec bias, float* out, int64_t row_stride,
                                         int64_t pixel, int64_t rows, int64_t columns, int64_t lanes) {
  VecPair t[6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; j++) {
    const float* p = m + j * point;
    const Vec m0 = half == 0 ? load(p) : Vec{}, m5 = half == 1 ? load(p + 30 * point) : Vec{};
    t[j] = winograd_output_half<half>(m0, load(p + 6 * point), load(p + 12 * point), load(p + 18 * point),
                                      load(p + 24 * point), m5);
  }
  const auto store_row = [&](int64_t i, Vec t0, Vec t1, Vec t2, Vec t3, Vec t4, Vec t5) __attribute__((always_inline)) {
    if (!whole && i >= rows) return;
    float* to = out + i * row_stride;
    const auto put = [&](int64_t j, Vec y) __attribute__((always_inline)) {
      if constexpr (whole)
        store(to + j * pixel, y + bias);
      else if (j < columns)
        store_partial(to + j * pixel, y + bias, lanes);
    };
    const VecPair even = winograd_output_half<0>(t0, t1, t2, t3, t4, t5);
    put(0, even.first), put(2, even.second);
    const VecPair odd = winograd_output_half<1>(t0, t1, t2, t3, t4, t5);
    put(1, odd.first), put(3, odd.second);
  };
  store_row(half, t[0].first, t[1].first, t[2].first, t[3].first, t[4].first, t[5].first);
  store_row(half + 2, t[0].second, t[1].second, t[2].second, t[3].second, t[4].second, t[5].second);
}

template <bool whole>
CONVCORE_INLINE void transform_tile(const float* m, int64_t point, Vec bias, float* out, int64_t row_stride,
                                    int64_t pixel, int64_t rows, int64_t columns, int64_t lanes) {
  transform_tile_half<0, whole>(m, point, bias, out, row_stride, pixel, rows, columns, lanes);
  transform_tile_half<1, whole>(m, point, bias, out, row_stride, pixel, rows, columns, lanes);
}

int64_t output_at(const WinogradShape& s, const Place& at) {
  return ((at.n * s.h_out + 4 * at.row) * s.w_out + 4 * at.column) * s.c_out;
}

void transform_output(const WinogradShape& s, const Layout& layout, const Block& block, const float* m,
                      const float* bias, float* out) {
  for (int64_t k = 0; k < layout.k_vectors; k++) {
    const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
    const Vec b = bias ? load_partial(bias + k * kLanes, lanes) : Vec{};
    for (int64_t t = 0; t < block.count; t++) {
      const Place& at = block.at[t];
      const int64_t rows = s.h_out - 4 * at.row, columns = s.w_out - 4 * at.column;
      const float* from = m + k * layout.vector + t * kLanes;
      float* to = out + output_at(s, at) + k * kLanes;
      if (rows >= 4 && columns >= 4 && lanes == kLanes)
        transform_tile<true>(from, layout.point, b, to, s.w_out * s.c_out, s.c_out, 4, 4, kLanes);
      else
        transform_tile<false>(from, layout.point, b, to, s.w_out * s.c_out, s.c_out, rows, columns, lanes);
    }
  }
}

// ---- prefetch -----------------------------------------------------------------------------------------------------

constexpr int64_t kLineFloats = kAlignment / sizeof(float);

// Share `point` of 36 of the four rows of four pixels that each tile of a block adds to what is cached: of the input,
// the pixels that the tile above and the one to the left have not read, of the output, those it writes.
void prefetch_input(const WinogradShape& s, const Block& block, const float* in, int64_t point) {
  const int64_t row = s.w_in * s.c_in, last = s.n * s.h_in * row - 1;
  for (int64_t i = block.count * 4 * point / kPoints; i < block.count * 4 * (point + 1) / kPoints; i++) {
    const Place& at = block.at[i / 4];
    const int64_t h = 4 * at.row + 2 - s.pad_top + i % 4, w = 4 * at.column + 2 - s.pad_left;
    const int64_t from = ((at.n * s.h_in + h) * s.w_in + w) * s.c_in;
    for (int64_t l = 0; l < 4 * s.c_in; l += kLineFloats) __builtin_prefetch(in + min_of(from + l, last), 0, 2);
  }
}

void prefetch_output(const WinogradShape& s, const Block& block, float* out, int64_t point) {
  const int64_t row = s.w_out * s.c_out, last = s.n * s.h_out * row - 1;
  for (int64_t i = block.count * 4 * point / kPoints; i < block.count * 4 * (point + 1) / kPoints; i++) {
    const int64_t from = output_at(s, block.at[i / 4]) + i % 4 * row;
    for (int64_t l = 0; l < 4 * s.c_out; l += kLineFloats) __builtin_prefetch(out + min_of(from + l, last), 1, 2);
  }
}

int64_t filter_point(const WinogradShape& s) { return vectors(s.c_out) * kLanes * s.c_in + kPad; }

}  // namespace

#ifdef PROF
unsigned long long prof[3];
#define TICK(i)                                       \
  {                                                   \
    unsigned long long now_ = __builtin_ia32_rdtsc(); \
    prof[i] += now_ - tick_;                          \
    tick_ = now_;                                     \
  }
#else
#define TICK(i)
#endif

void winograd_convolve(const WinogradShape& s, const float* in, const float* u, const float* bias, float* out) {
  const Tiles tiles(s);
  const Layout layout(s);
  const int64_t blocks = (tiles.count + kBlockTiles - 1) / kBlockTiles;
  const int64_t work = kBlockTiles * kPoints * layout.k_vectors * (s.c_in + 16);
  parallel_for(blocks, work, [&](int64_t begin, int64_t end) {
    const int64_t zero_floats = (zero_row_floats(s) + kPad - 1) / kPad * kPad;
    float* zeros =
        static_cast<float*>(thread_workspace(0, size_t(zero_floats + (kPoints + 1) * layout.point) * sizeof(float)));
    float *m = zeros + zero_floats, *v = m + layout.point;
    memset(zeros, 0, size_t(zero_floats) * sizeof(float));
    Block block(tiles, begin);
    for (int64_t i = begin; i < end; i++) {
      const Block next(tiles, i + 1);
#ifdef PROF
      unsigned long long tick_ = __builtin_ia32_rdtsc();
#endif
      transform_input(s, tiles, layout, block, in, zeros, v);
      TICK(0)
      for (int64_t p = 0; p < kPoints; p++) {
        prefetch_input(s, next, in, p);
        prefetch_output(s, block, out, p);
        product(s, layout, block.count, v + p * layout.point, u + p * filter_point(s), m + p * layout.point);
      }
      TICK(1)
      transform_output(s, layout, block, m, bias, out);
      TICK(2)
      block = next;
    }
  });
}

// ---- filters ------------------------------------------------------------------------------------------------------

int64_t winograd_filter_floats(const WinogradShape& s) { return kPoints * filter_point(s); }

// U[p][panel of kPanelVecs vectors of outputs][input channel][vector][lane]
void winograd_transform_filters(const WinogradShape& s, const float* w, float* u) {
  const int64_t k_vectors = vectors(s.c_out), point = filter_point(s);
  // w is (c_out, c_in, 3, 3), in the backward pass (c_in, c_out, 3, 3).
  const int64_t out_stride = s.backward ? 9 : 9 * s.c_in, in_stride = s.backward ? 9 * s.c_out : 9;
  parallel_for(k_vectors * s.c_in, 200, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t k = i / s.c_in, c = i % s.c_in;
      const int64_t lanes = min_of<int64_t>(kLanes, s.c_out - k * kLanes);
      float taps[9][kLanes] = {};
      const float* from = w + k * kLanes * out_stride + c * in_stride;
      for (int64_t l = 0; l < lanes; l++)
        for (int64_t t = 0; t < 9; t++) taps[s.backward ? 8 - t : t][l] = from[l * out_stride + t];

      Vec columns[3][6];
      for (int j = 0; j < 3; j++) winograd_filter(load(taps[j]), load(taps[3 + j]), load(taps[6 + j]), columns[j]);
      const int64_t panel = k / kPanelVecs * kPanelVecs, width = min_of<int64_t>(kPanelVecs, k_vectors - panel);
      float* to = u + panel * kLanes * s.c_in + (c * width + k - panel) * kLanes;
      for (int r = 0; r < 6; r++) {
        Vec row[6];
        winograd_filter(columns[0][r], columns[1][r], columns[2][r], row);
        for (int j = 0; j < 6; j++) store(to + (r * 6 + j) * point, row[j]);
      }
    }
  });
}

// ---- the passes of conv2d -----------------------------------------------------------------------------------------

bool winograd_applies(const Conv2dShape& s) {
  const auto fits = [](const WindowAxis& w) {
    return w.kernel == 3 && w.stride == 1 && w.dilation == 1 && w.pad_before <= 2 && w.pad_after <= 2;
  };
  return s.groups == 1 && fits(s.window.h) && fits(s.window.w);
}

WinogradShape winograd_forward_shape(const Conv2dShape& s) {
  return {s.n, s.h_in, s.w_in, s.c_in, s.h_out, s.w_out, s.c_out, s.window.h.pad_before, s.window.w.pad_before, false};
}

WinogradShape winograd_backward_input_shape(const Conv2dShape& s) {
  return {s.n, s.h_out, s.w_out, s.c_out, s.h_in, s.w_in, s.c_in, 2 - s.window.h.pad_before, 2 - s.window.w.pad_before,
          true};
}

static void transform_and_convolve(const WinogradShape& s, const float* in, const float* w, const float* bias,
                                   float* out) {
  const ScratchBlock filters(size_t(winograd_filter_floats(s)) * sizeof(float));
  float* u = static_cast<float*>(filters.data());
  winograd_transform_filters(s, w, u);
  winograd_convolve(s, in, u, bias, out);
}

void winograd_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  transform_and_convolve(winograd_forward_shape(s), x, w, b, y);
}

void winograd_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  transform_and_convolve(winograd_backward_input_shape(s), dy, w, nullptr, dx);
}

}  // namespace convcore::cpu::CONVCORE_ISA

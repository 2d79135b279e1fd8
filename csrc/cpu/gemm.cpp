// Matrix product by register tiles (cpu/tile.h) over panels of B and blocks of k.
//
// C is cut into chunks of rows and panels of columns. A thread walks its panels in groups; for each block of k it goes
// through the panels of a group, whose part of B (kDepth x kPanel floats, 32 KiB) then stays in L1 while all tiles of
// the chunk read it. B comes packed (rows of one panel one behind the other) or is packed by the thread that needs it
// right before the use, so that a B that is used once passes through memory once. A is read in place, one broadcast at
// a time; where its columns lie one behind the other, the block is copied first: its rows would be a cache line each,
// often in the same set.
//
// Where B must be transposed to be packed and A is the smaller one, C^T = B^T A^T is computed instead: B is read in
// place, and A and C are turned. A dense layer's forward pass is such a product, x W^T with few rows in x.
//
// Source of the blocking: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", TOMS 34
// (2008).
#include "cpu/gemm.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kAccumulators = kTileRows * kTileVecs;
constexpr int64_t kPanel = kTileVecs * kLanes;
constexpr int64_t kDepth = 128;     // a sum of k is a sum of sums over so many terms: a smaller rounding error, too
constexpr int64_t kRowChunk = 96;   // rows of A that a task reads: 48 KiB per block of k
constexpr int64_t kMostRows = 256;  // of A for which B is packed on the way: one chunk
constexpr int64_t kGroupFloats = 1 << 16;  // of C that are gone through once per block of k: 256 KiB, a part of L2
constexpr int kGemmSlot = 3;               // workspace of the thread (the convolutions use the others)

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// n columns cut evenly into panels of at most `most` vectors. Packed panels lie one behind the other.
struct Panels {
  int64_t n, vecs, count;
  Panels(int64_t columns, int64_t most) : n(columns), vecs(ceil_div(columns, kLanes)), count(ceil_div(vecs, most)) {}
  int64_t first_vec(int64_t p) const { return vecs * p / count; }
  int64_t first(int64_t p) const { return first_vec(p) * kLanes; }
  int64_t vecs_of(int64_t p) const { return first_vec(p + 1) - first_vec(p); }
  int64_t end(int64_t p) const { return min_of(n, first(p + 1)); }
};

// Of panels of kTileVecs vectors or one less, those that keep `threads` busy best: 12 vectors are four panels of three
// for two threads, not three of four. Still narrower tiles lose more by their loads than they win.
Panels balanced_panels(int64_t columns, int64_t threads) {
  constexpr int64_t kNarrower = 4;  // per cent that a tile with one vector less is slower
  Panels best(columns, kTileVecs);
  int64_t best_time = INT64_MAX;
  for (int64_t most = kTileVecs; most >= kTileVecs - 1; most--) {
    const Panels panels(columns, most);
    const int64_t widest = ceil_div(panels.vecs, panels.count);
    const int64_t time = ceil_div(panels.count, threads) * widest * (100 + kNarrower * (kTileVecs - most));
    if (time < best_time) best = panels, best_time = time;
  }
  return best;
}

// packed[t][j] = B[k0 + t][j0 + j] for t < depth, j < columns; columns up to `width` are zeros.
void pack_block(const Matrix& b, int64_t k0, int64_t j0, int64_t depth, int64_t columns, int64_t width, float* packed) {
  const float* from = b.data + k0 * b.row_stride + j0 * b.column_stride;
  const int64_t whole = columns / kLanes * kLanes, rest = columns - whole;
  if (b.column_stride != 1) {
    if (rest)
      for (int64_t t = 0; t < depth; t++) store(packed + t * width + whole, Vec{});
    transpose_matrix(columns, depth, from, b.column_stride, packed, width);
    return;
  }
  for (int64_t t = 0; t < depth; t++, from += b.row_stride, packed += width) {
    for (int64_t j = 0; j < whole; j += kLanes) store(packed + j, load(from + j));
    if (rest) store(packed + whole, load_partial(from + whole, rest));
  }
}

struct Product {
  GemmShape s;
  Matrix a, b;
  const float* packed;  // B, or null: packed on the way
  float* c;             // element (i, j) at c[i * c_stride + j], or when `turned` at c[j * c_stride + i]
  int64_t c_stride;
  const float* bias;  // per column, or when `turned` per row; or null
  bool turned;
  Panels panels;
};

struct TileInputs {
  const float* a;  // element (r, t) at a[r * a_row + t * a_column]
  int64_t a_row, a_column, depth;
  const float* b;                       // (depth, V * kLanes)
  const float *column_bias, *row_bias;  // or null
  const float* ahead;                   // rows of A that come next, fetched while this tile is computed
  int64_t ahead_rows;
};

struct TileOutput {
  float* c;
  int64_t stride, last;  // lanes of the last vector
  bool adds;             // to what is there
};

template <int R, int V>
void tile_product(const TileInputs& x, const TileOutput& y) {
  constexpr int64_t kLine = 16;  // floats
  for (int64_t r = 0; r < x.ahead_rows; r++)
    for (int64_t t = 0; t < x.depth; t += kLine) __builtin_prefetch(x.ahead + r * x.a_row + t);
  Tile<R, V> tile;
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const Vec start = x.column_bias ? load_partial(x.column_bias + v * kLanes, v == V - 1 ? y.last : kLanes) : Vec{};
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) tile.acc[r][v] = x.row_bias ? splat(x.row_bias[r]) : start;
  }
  tile.multiply_add(
      x.depth, [&](int r, int64_t t) { return x.a[r * x.a_row + t * x.a_column]; },
      [&](int64_t t) { return x.b + t * (V * kLanes); });
  const bool whole = y.last == kLanes;
  float* row = y.c;
#pragma GCC unroll 32
  for (int r = 0; r < R; r++, row += y.stride) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      float* to = row + v * kLanes;
      Vec total = tile.acc[r][v];
      if (v < V - 1 || whole) {
        if (y.adds) total += load(to);
        store(to, total);
      } else {
        if (y.adds) total += load_partial(to, y.last);
        store_partial(to, total, y.last);
      }
    }
  }
}

// Copies a block of A whose columns lie one behind the other: to[t * rows_padded + i] = a[t * column_stride + i].
void copy_columns(const float* a, int64_t column_stride, int64_t rows, int64_t depth, int64_t rows_padded, float* to) {
  for (int64_t t = 0; t < depth; t++, a += column_stride, to += rows_padded)
    for (int64_t i = 0; i < rows; i += kLanes) store(to + i, load_partial(a + i, min_of<int64_t>(kLanes, rows - i)));
}

// Rows i0 .. i1 - 1 of C, the columns of panels p0 .. p1 - 1.
struct Part {
  const Product& q;
  int64_t i0, i1, p0, p1;

  int64_t rows() const { return i1 - i0; }
  int64_t rows_padded() const { return ceil_div(rows(), kLanes) * kLanes; }
  bool copies_a() const { return q.a.column_stride != 1; }
  int64_t depth_most() const { return min_of(kDepth, q.s.k); }
  int64_t group() const {  // panels
    const int64_t all = p1 - p0;
    return q.s.k <= kDepth ? all : min_of(all, max_of<int64_t>(1, kGroupFloats / (rows() * kPanel)));
  }

  void run() const {
    const int64_t b_floats = q.packed ? 0 : depth_most() * kPanel;
    const int64_t a_floats = copies_a() ? depth_most() * rows_padded() : 0;
    const int64_t c_floats = q.turned ? rows() * group() * kPanel : 0;
    float* memory =
        static_cast<float*>(thread_workspace(kGemmSlot, size_t(b_floats + a_floats + c_floats) * sizeof(float)));
    for (int64_t g0 = p0, g1; g0 < p1; g0 = g1) {
      g1 = min_of(p1, g0 + group());
      run_group(g0, g1, memory, memory + b_floats, memory + b_floats + a_floats);
    }
  }

  void run_group(int64_t g0, int64_t g1, float* b_block, float* a_block, float* c_block) const {
    const int64_t j_begin = q.panels.first(g0), columns = q.panels.end(g1 - 1) - j_begin;
    TileOutput y{};
    float* c = q.turned ? c_block : q.c + i0 * q.c_stride + j_begin;
    y.stride = q.turned ? (g1 - g0) * kPanel : q.c_stride;
    for (int64_t k0 = 0; k0 < q.s.k || k0 == 0; k0 += kDepth) {
      TileInputs x{};
      x.depth = min_of(kDepth, q.s.k - k0);
      x.a = q.a.data + i0 * q.a.row_stride + k0 * q.a.column_stride;
      x.a_row = q.a.row_stride, x.a_column = q.a.column_stride;
      if (copies_a()) {
        copy_columns(x.a, x.a_column, rows(), x.depth, rows_padded(), a_block);
        x.a = a_block, x.a_row = 1, x.a_column = rows_padded();
      }
      y.adds = k0 > 0;
      for (int64_t p = g0; p < g1; p++) {
        const int64_t j0 = q.panels.first(p), vecs = q.panels.vecs_of(p), width = vecs * kLanes;
        y.last = q.panels.end(p) - j0 - (vecs - 1) * kLanes;
        if (!q.packed) pack_block(q.b, k0, j0, x.depth, q.panels.end(p) - j0, width, b_block);
        x.b = q.packed ? q.packed + j0 * q.s.k + k0 * width : b_block;
        const bool with_bias = q.bias && k0 == 0;
        x.column_bias = with_bias && !q.turned ? q.bias + j0 : nullptr;
        run_panel(x, y, vecs, c + j0 - j_begin, with_bias && q.turned ? q.bias + i0 : nullptr, q.turned && p == g0);
      }
    }
    if (q.turned) transpose_matrix(rows(), columns, c_block, y.stride, q.c + j_begin * q.c_stride + i0, q.c_stride);
  }

  // All rows by one panel. `from_memory`: A is read for the first time, and is large.
  void run_panel(TileInputs x, TileOutput y, int64_t vecs, float* c, const float* row_bias, bool from_memory) const {
    with_count<kTileVecs>(vecs, [&](auto v) {
      constexpr int kMost = kAccumulators / v.value;
      for (int64_t i = 0, count; i < rows(); i += count) {
        count = next_tile(rows() - i, kMost);
        y.c = c + i * y.stride;
        if (row_bias) x.row_bias = row_bias + i;
        x.ahead = x.a + count * x.a_row;
        x.ahead_rows = from_memory ? min_of(count, rows() - i - count) : 0;
        with_count<kMost>(count, [&](auto r) { tile_product<r.value, v.value>(x, y); });
        x.a += count * x.a_row;
      }
    });
  }
};

void multiply(const Product& q) {
  const int64_t chunks = ceil_div(q.s.m, q.packed ? kRowChunk : kMostRows), panels = q.panels.count;
  const int64_t items = chunks * panels;
  // Waking a second thread takes 1 to 6 us: products of 20 us and more are shared. That is 1.5 units of work for a
  // vector of multiply-adds.
  const int64_t work = ceil_div(q.s.m, chunks) * ceil_div(q.s.n, panels) * q.s.k / kLanes * 3 / 2 + 1;
  parallel_for(items, work, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin, next; item < end; item = next) {
      const int64_t chunk = item / panels, p = item % panels;
      next = min_of(end, (chunk + 1) * panels);
      Part{q, q.s.m * chunk / chunks, q.s.m * (chunk + 1) / chunks, p, p + next - item}.run();
    }
  });
}

}  // namespace

int64_t gemm_packed_floats(int64_t k, int64_t n) { return ceil_div(n, kLanes) * kLanes * k; }

void gemm_pack_part(int64_t k, int64_t n, const Matrix& b, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
                    float* packed) {
  const Panels panels(n, kTileVecs);
  for (int64_t p = 0; p < panels.count; p++) {
    const int64_t first = panels.first(p), width = panels.vecs_of(p) * kLanes;
    const int64_t from = max_of(j0, first), to = min_of(j1, panels.end(p));
    if (from < to) pack_block(b, k0, from, k1 - k0, to - from, width, packed + first * k + k0 * width + from - first);
  }
}

void gemm_pack(int64_t k, int64_t n, const Matrix& b, float* packed) {
  const Panels panels(n, kTileVecs);
  const int64_t blocks = ceil_div(k, kDepth);
  parallel_for(panels.count * blocks, min_of(kDepth, k) * kPanel / 8, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t p = task / blocks, k0 = task % blocks * kDepth;
      gemm_pack_part(k, n, b, k0, min_of(k, k0 + kDepth), panels.first(p), panels.end(p), packed);
    }
  });
}

void gemm_with_packed(const GemmShape& s, const Matrix& a, const float* packed, float* c, int64_t c_stride,
                      const float* bias) {
  if (s.m == 0 || s.n == 0) return;
  multiply({s, a, {}, packed, c, c_stride, bias, false, Panels(s.n, kTileVecs)});
}

void gemm(const GemmShape& s, const Matrix& a, const Matrix& b, float* c, int64_t c_stride, const float* bias) {
  if (s.m == 0 || s.n == 0) return;
  Product q{s, a, b, nullptr, c, c_stride, bias, false, Panels(s.n, kTileVecs)};
  const bool transposes = a.column_stride == 1 && b.column_stride != 1;
  if (transposes && s.m * (s.k + s.n) < s.n * s.k) {  // the numbers that are turned
    q.s = {s.n, s.m, s.k};
    q.a = b.transposed(), q.b = a.transposed(), q.turned = true;
  }
  if (q.s.m <= kMostRows) {
    q.panels = balanced_panels(q.s.n, num_threads());
    return multiply(q);
  }
  const ScratchBlock block(size_t(gemm_packed_floats(q.s.k, q.s.n)) * sizeof(float));
  float* packed = static_cast<float*>(block.data());
  gemm_pack(q.s.k, q.s.n, q.b, packed);
  q.packed = packed, q.panels = Panels(q.s.n, kTileVecs);
  multiply(q);
}

}  // namespace convcore::cpu::CONVCORE_ISA

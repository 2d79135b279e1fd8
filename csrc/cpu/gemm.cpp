// Matrix product by packed panels of B and register tiles (cpu/tile.h).
//
// B is packed once into column panels, kTileVecs vectors wide. C is cut into tasks of one panel by kRowChunk rows; a
// task walks k in blocks of kDepth, so that its part of the panel (32 KiB at most) stays in L1 while kRowChunk /
// kTileRows tiles read it. A is read in place, one broadcast at a time.
//
// Source of the blocking: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", TOMS 34
// (2008).
#include "cpu/gemm.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int64_t kPanel = kTileVecs * kLanes;
constexpr int64_t kDepth = 128;
constexpr int64_t kRowChunk = 96;  // rows of A that a task reads: 48 KiB per block of k

typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec4Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t Int4 __attribute__((vector_size(16)));

// out[i][j] = in[j][i] for a 4 x 4 block.
CONVCORE_INLINE void transpose4(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  Vec4 row[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) row[j] = *reinterpret_cast<const Vec4Unaligned*>(in + j * in_stride);
  const Vec4 lo01 = __builtin_shuffle(row[0], row[1], Int4{0, 4, 1, 5});
  const Vec4 hi01 = __builtin_shuffle(row[0], row[1], Int4{2, 6, 3, 7});
  const Vec4 lo23 = __builtin_shuffle(row[2], row[3], Int4{0, 4, 1, 5});
  const Vec4 hi23 = __builtin_shuffle(row[2], row[3], Int4{2, 6, 3, 7});
  *reinterpret_cast<Vec4Unaligned*>(out) = __builtin_shuffle(lo01, lo23, Int4{0, 1, 4, 5});
  *reinterpret_cast<Vec4Unaligned*>(out + out_stride) = __builtin_shuffle(lo01, lo23, Int4{2, 3, 6, 7});
  *reinterpret_cast<Vec4Unaligned*>(out + 2 * out_stride) = __builtin_shuffle(hi01, hi23, Int4{0, 1, 4, 5});
  *reinterpret_cast<Vec4Unaligned*>(out + 3 * out_stride) = __builtin_shuffle(hi01, hi23, Int4{2, 3, 6, 7});
}

// packed[t][j] = B[k0 + t][j0 + j] for t < depth, j < columns; columns up to `width` are zeros.
void pack_panel(const Matrix& b, int64_t k0, int64_t j0, int64_t depth, int64_t columns, int64_t width, float* packed) {
  const float* from = b.data + k0 * b.row_stride + j0 * b.column_stride;
  if (columns < width) memset(packed, 0, size_t(depth * width) * sizeof(float));
  if (b.column_stride == 1) {
    for (int64_t t = 0; t < depth; t++)
      memcpy(packed + t * width, from + t * b.row_stride, size_t(columns) * sizeof(float));
    return;
  }
  const int64_t depth4 = b.row_stride == 1 ? depth / 4 * 4 : 0, columns4 = columns / 4 * 4;
  for (int64_t j = 0; j < columns4; j += 4)
    for (int64_t t = 0; t < depth4; t += 4)
      transpose4(from + t + j * b.column_stride, b.column_stride, packed + t * width + j, width);
  for (int64_t t = 0; t < depth; t++)
    for (int64_t j = t < depth4 ? columns4 : 0; j < columns; j++)
      packed[t * width + j] = from[t * b.row_stride + j * b.column_stride];
}

// One tile of C: R rows, V vectors of which the last has `last` lanes. Later blocks of k go on from C.
template <int R, int V>
void tile_product(const float* a, const Matrix& a_matrix, int64_t depth, const float* packed, float* c,
                  int64_t c_stride, int64_t last, const float* bias, bool first_block) {
  Tile<R, V> tile;
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) {
      const int64_t lanes = v == V - 1 ? last : kLanes;
      if (!first_block)
        tile.acc[r][v] = load_partial(c + r * c_stride + v * kLanes, lanes);
      else
        tile.acc[r][v] = bias ? load_partial(bias + v * kLanes, lanes) : Vec{};
    }
  const int64_t row = a_matrix.row_stride, column = a_matrix.column_stride;
  tile.multiply_add(
      depth, [&](int r, int64_t t) { return a[r * row + t * column]; },
      [&](int64_t t) { return packed + t * (V * kLanes); });
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) {
      float* to = c + r * c_stride + v * kLanes;
      if (v == V - 1 && last < kLanes)
        store_partial(to, tile.acc[r][v], last);
      else
        store(to, tile.acc[r][v]);
    }
}

int64_t panels_of(int64_t n) { return (n + kPanel - 1) / kPanel; }
int64_t columns_of(int64_t n, int64_t panel) { return min_of(kPanel, n - panel * kPanel); }
int64_t vecs_of(int64_t n, int64_t panel) { return (columns_of(n, panel) + kLanes - 1) / kLanes; }

}  // namespace

int64_t gemm_packed_floats(int64_t k, int64_t n) { return panels_of(n) * kPanel * k; }

void gemm_pack(int64_t k, int64_t n, const Matrix& b, float* packed) {
  const int64_t blocks = (k + kDepth - 1) / kDepth;
  parallel_for(panels_of(n) * blocks, min_of(kDepth, k) * kPanel / 4, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t panel = task / blocks, k0 = task % blocks * kDepth, width = vecs_of(n, panel) * kLanes;
      pack_panel(b, k0, panel * kPanel, min_of(kDepth, k - k0), columns_of(n, panel), width,
                 packed + panel * kPanel * k + k0 * width);
    }
  });
}

void gemm_with_packed(const GemmShape& s, const Matrix& a, const float* packed, float* c, int64_t c_stride,
                      const float* bias) {
  if (s.m == 0 || s.n == 0) return;
  const int64_t chunks = (s.m + kRowChunk - 1) / kRowChunk;
  const int64_t work = min_of(s.m, kRowChunk) * min_of(s.n, kPanel) * s.k / kLanes + 1;
  parallel_for(panels_of(s.n) * chunks, work, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t panel = task / chunks, j0 = panel * kPanel, i0 = task % chunks * kRowChunk;
      const int64_t vecs = vecs_of(s.n, panel), last = columns_of(s.n, panel) - (vecs - 1) * kLanes;
      const int64_t i_end = min_of(s.m, i0 + kRowChunk);
      for (int64_t k0 = 0; k0 < s.k || k0 == 0; k0 += kDepth) {
        const int64_t depth = min_of(kDepth, s.k - k0);
        const float* panel_block = packed + panel * kPanel * s.k + k0 * vecs * kLanes;
        for (int64_t i = i0, rows; i < i_end; i += rows) {
          rows = next_tile(i_end - i, kTileRows);
          with_count<kTileRows>(rows, [&](auto r) {
            with_count<kTileVecs>(vecs, [&](auto v) {
              tile_product<r.value, v.value>(a.data + i * a.row_stride + k0 * a.column_stride, a, depth, panel_block,
                                             c + i * c_stride + j0, c_stride, last, bias ? bias + j0 : nullptr,
                                             k0 == 0);
            });
          });
        }
      }
    }
  });
}

void gemm(const GemmShape& s, const Matrix& a, const Matrix& b, float* c, int64_t c_stride, const float* bias) {
  if (s.m == 0 || s.n == 0) return;
  const ScratchBlock block(size_t(gemm_packed_floats(s.k, s.n)) * sizeof(float));
  float* packed = static_cast<float*>(block.data());
  gemm_pack(s.k, s.n, b, packed);
  gemm_with_packed(s, a, packed, c, c_stride, bias);
}

}  // namespace convcore::cpu::CONVCORE_ISA

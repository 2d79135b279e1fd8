// Matrix product C = A B (+ bias per column), float32, of matrices in either order.
//
// gemm() does it in one call. Where the same B meets many A (the weights of a layer, the rows of a batch block by
// block), pack B once with gemm_pack() and use it with gemm_with_packed() as often as needed.
#pragma once
#include <cstdint>

namespace convcore::cpu::CONVCORE_ISA {

struct GemmShape {
  int64_t m, n, k;  // A (m, k), B (k, n), C (m, n)
};

struct Matrix {  // element (i, j) is data[i * row_stride + j * column_stride]; one of the strides is 1
  const float* data;
  int64_t row_stride, column_stride;
  Matrix transposed() const { return {data, column_stride, row_stride}; }
};

// C is row-major with `c_stride` floats from row to row and is overwritten. `bias` (n) is added to each row, or null.
// Each element of C is a sum over k in ascending order, of sums over blocks of a fixed size: the same bits at any
// number of threads.
void gemm(const GemmShape&, const Matrix& a, const Matrix& b, float* c, int64_t c_stride, const float* bias);

// The same in two steps. A packed B holds gemm_packed_floats(k, n) floats and starts at a multiple of 64 bytes; its
// order is a secret of this kernel. An element of C has the same bits whatever the rows of one call are, so a batch may
// be cut into blocks of rows at will. Both may be called inside a parallel region and then run on the calling thread.
int64_t gemm_packed_floats(int64_t k, int64_t n);
void gemm_pack(int64_t k, int64_t n, const Matrix& b, float* packed);  // b.transposed() packs B^T
// Packs anew the rows [k0, k1) and columns [j0, j1) of B, on the calling thread. j0 is a multiple of kLanes, j1 too or
// n.
void gemm_pack_part(int64_t k, int64_t n, const Matrix& b, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
                    float* packed);
void gemm_with_packed(const GemmShape&, const Matrix& a, const float* packed, float* c, int64_t c_stride,
                      const float* bias);

}  // namespace convcore::cpu::CONVCORE_ISA

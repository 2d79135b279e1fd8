// General matrix product C = A B (+ bias per column), float32, with any strides of A and B.
#pragma once
#include <cstdint>

namespace convcore::cpu::CONVCORE_ISA {

struct GemmShape {
  int64_t m, n, k;  // A (m, k), B (k, n), C (m, n)
};

struct Matrix {  // element (i, j) is data[i * row_stride + j * column_stride]
  const float* data;
  int64_t row_stride, column_stride;
};

// C is row-major with `c_stride` floats from row to row and is overwritten. `bias` (n) is added to each row, or null.
// Each element of C is one sum over k in ascending order, cut into blocks of a fixed size: the same bits at any number
// of threads.
void gemm(const GemmShape&, const Matrix& a, const Matrix& b, float* c, int64_t c_stride, const float* bias);

}  // namespace convcore::cpu::CONVCORE_ISA

#include "cpu/gemm.h"

namespace convcore::cpu::CONVCORE_ISA {

void gemm(const GemmShape& s, const Matrix& a, const Matrix& b, float* c, int64_t c_stride, const float* bias) {
  for (int64_t i = 0; i < s.m; i++)
    for (int64_t j = 0; j < s.n; j++) {
      float total = bias ? bias[j] : 0;
      for (int64_t k = 0; k < s.k; k++)
        total += a.data[i * a.row_stride + k * a.column_stride] * b.data[k * b.row_stride + j * b.column_stride];
      c[i * c_stride + j] = total;
    }
}

}  // namespace convcore::cpu::CONVCORE_ISA

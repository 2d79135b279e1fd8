// The pieces of batch_norm that run over a block of images on the calling thread. Their contract is with
// BatchNormKernels in ops/batch_norm.h.
#pragma once
#include "ops/batch_norm.h"

namespace convcore::cpu::CONVCORE_ISA {

void batch_norm_partial(const BatchNormShape&, int64_t n0, int64_t n1, const float* x, const float* pivot, double* sum,
                        double* sum_sq);
void batch_norm_apply(const BatchNormShape&, int64_t n0, int64_t n1, const float* x, const BatchNormAffine&,
                      const BatchNormResidual&, bool relu, float* y);
void batch_norm_backward_partial(const BatchNormShape&, int64_t n0, int64_t n1, const float* dy, const float* x,
                                 const float* mean, const float* y, float* dz, double* sum_dz, double* sum_dz_x);
void batch_norm_backward_apply(const BatchNormShape&, int64_t n0, int64_t n1, const float* dz, const float* x,
                               const BatchNormInputGradient&, float* dx);

}  // namespace convcore::cpu::CONVCORE_ISA

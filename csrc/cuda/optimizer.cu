// optimizer: one pass over parameter, gradient and state. Rules: ops/optimizer.h.
#include "ops/optimizer.h"

#include "cuda/elementwise.cuh"
#include "cuda/optimizer_rules.cuh"
#include "cuda/rows.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

CONVCORE_KERNEL(kRowThreads)
limit_norms_of_rows(int64_t rows, int64_t columns, float max_norm, float* param) {
  for_each_row(rows, [&](int64_t r) {
    float* row = param + r * columns;
    float squares = 0;
    for (int64_t i = lane(); i < columns; i += kWarp) squares = fmaf(row[i], row[i], squares);
    const float norm = sqrtf(warp_sum(squares));
    if (!(norm > max_norm)) return;  // a NaN stays
    const float scale = max_norm / norm;
    for (int64_t i = lane(); i < columns; i += kWarp) row[i] *= scale;
  });
}

void sgd(int64_t count, const SgdFactors* factors, float* param, const float* grad, float* buffer) {
  // Without a buffer the parameter stands in for it: read, and not written.
  const bool keeps = buffer != nullptr;
  for_elements("sgd", count, ElementArrays<3, 2>{{param, grad, keeps ? buffer : param}, {param, buffer}},
               Sgd{factors, keeps});
}

void adam(int64_t count, const AdamFactors* factors, float* param, const float* grad, float* mean, float* square) {
  for_elements("adam", count, ElementArrays<4, 3>{{param, grad, mean, square}, {param, mean, square}}, Adam{factors});
}

void rmsprop(int64_t count, const RmspropFactors* factors, float* param, const float* grad, float* square, float* mean,
             float* buffer) {
  const bool centered = mean != nullptr, keeps = buffer != nullptr;
  for_elements("rmsprop", count,
               ElementArrays<5, 4>{{param, grad, square, centered ? mean : param, keeps ? buffer : param},
                                   {param, square, mean, buffer}},
               Rmsprop{factors, centered, keeps});
}

void adagrad(int64_t count, const AdagradFactors* factors, float* param, const float* grad, float* sum) {
  for_elements("adagrad", count, ElementArrays<3, 2>{{param, grad, sum}, {param, sum}}, Adagrad{factors});
}

void limit_norms(int64_t rows, int64_t columns, float max_norm, float* param) {
  launch_rows("limit_norms", limit_norms_of_rows, rows, rows, columns, max_norm, param);
}

// ---- before the step ------------------------------------------------------------------------------------------------

struct Mask {
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = in[0] != 0 ? in[1] : 0.0f; }
};
void mask(int64_t count, const float* keep, float* grad) {
  for_elements("mask of a gradient", count, ElementArrays<2, 1>{{keep, grad}, {grad}}, Mask{});
}

struct ClipFactor {  // one thread: there are as many squares as parameters
  int64_t count;
  const double* squares;
  double max_norm;
  float* factor;
  __device__ void operator()(int64_t) const {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += squares[i];
    *factor = float(max_norm / (sqrt(sum) + 1e-6));
  }
};
void clip_factor(int64_t count, const double* squares, double max_norm, float* factor) {
  for_positions("norm of all gradients", 1, ClipFactor{count, squares, max_norm, factor});
}

struct Clip {
  const float* factor;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    out[0] = *factor >= 1 ? in[0] : in[0] * *factor;
  }
};
void clip(int64_t count, const float* factor, float* grad) {
  for_elements("clip", count, ElementArrays<1, 1>{{grad}, {grad}}, Clip{factor});
}

}  // namespace

OptimizerKernels optimizer_kernels() { return {sgd, adam, rmsprop, adagrad, limit_norms, mask, clip_factor, clip}; }

}  // namespace convcore::cuda

// batch_norm on channels-last images: a matrix of n * plane rows and c columns. Formulas: ops/batch_norm.h.
//
// Sums: channel_sums.cuh, about a pivot: the first pixel, which keeps the digits that squares of large means would
// lose. The rest is elementwise, four channels at a time (images.cuh). Bytes: forward x twice and y once; backward dy
// and x twice, dx once.
#include "ops/batch_norm.h"

#include "cuda/batch_norm.cuh"
#include "cuda/channel_sums.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/images.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct AboutPivot {
  const float *x, *pivot;
  int64_t c;
  __device__ void operator()(int64_t row, int64_t column, float* a, float* b) const {
    const float d = x[row * c + column] - (pivot ? pivot[column] : 0.0f);
    *a = d, *b = d * d;
  }
};

struct AddTo {
  double *first, *second;
  __device__ void operator()(int64_t column, double a, double b) const { first[column] += a, second[column] += b; }
};

// done(c, first[c], second[c])
template <typename Done>
struct FromSums {
  const double *first, *second;
  Done done;
  __device__ void operator()(int64_t c) const { done(c, first[c], second[c]); }
};

// The numbers of kLanes channels.
template <int kLanes>
struct AffineLanes {
  Lanes<float, kLanes> mean, scale, bias;
  __device__ AffineLanes(const BatchNormAffine& a, int64_t c)
      : mean(load_lanes<kLanes>(a.mean + c)),
        scale(load_lanes<kLanes>(a.scale + c)),
        bias(load_lanes<kLanes>(a.bias + c)) {}
  __device__ float normalized(int l, float x) const { return fmaf(x - mean.at[l], scale.at[l], bias.at[l]); }
};

struct Apply {
  const float* x;
  BatchNormAffine affine;
  BatchNormResidual residual;
  bool relu;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(x + p.offset);
    const AffineLanes<kLanes> own(affine, p.c);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] = own.normalized(l, v.at[l]);
    if (residual.values) {
      auto added = load_lanes<kLanes>(residual.values + p.offset);
      if (residual.affine.mean) {
        const AffineLanes<kLanes> other(residual.affine, p.c);
        CONVCORE_UNROLL
        for (int l = 0; l < kLanes; l++) added.at[l] = other.normalized(l, added.at[l]);
      }
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++) v.at[l] += added.at[l];
    }
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++)
      if (relu && v.at[l] <= 0) v.at[l] = 0;
    store_lanes(y + p.offset, v);
  }
};

struct ScaleAndBias {
  const float *rstd, *weight, *bias;
  float *scale, *offset;
  __device__ void operator()(int64_t c) const {
    scale[c] = rstd[c] * (weight ? weight[c] : 1.0f);
    if (offset) offset[c] = bias ? bias[c] : 0.0f;
  }
};

// dz = dy where y > 0; the terms of the sums of dz and dz * (x - mean).
struct BackwardTerms {
  int64_t c;
  const float *dy, *x, *mean, *y;
  float* dz;
  __device__ void operator()(int64_t row, int64_t column, float* a, float* b) const {
    const int64_t at = row * c + column;
    const float value = y && !(y[at] > 0) ? 0.0f : dy[at];
    if (dz) dz[at] = value;
    *a = value, *b = value * (x[at] - mean[column]);
  }
};

struct BackwardApply {
  const float *dz, *x;
  BatchNormInputGradient g;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(dz + p.offset);
    if (g.mean) {
      const auto from = load_lanes<kLanes>(x + p.offset), mean = load_lanes<kLanes>(g.mean + p.c);
      const auto center = load_lanes<kLanes>(g.center + p.c), slope = load_lanes<kLanes>(g.slope + p.c);
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++) v.at[l] = v.at[l] - center.at[l] - (from.at[l] - mean.at[l]) * slope.at[l];
    }
    const auto scale = load_lanes<kLanes>(g.scale + p.c);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] *= scale.at[l];
    store_lanes(dx + p.offset, v);
  }
};

struct ReciprocalStd {
  const float* var;
  double eps;
  float* rstd;
  __device__ void operator()(int64_t c) const { rstd[c] = float(1.0 / sqrt(double(var[c]) + eps)); }
};

int64_t rows_of(const BatchNormShape& s) { return s.n * s.plane; }

// ---- pieces -------------------------------------------------------------------------------------------------------

// The images [n0, n1) of an array of the whole batch.
const float* part(const float* p, const BatchNormShape& s, int64_t n0) { return p ? p + n0 * s.plane * s.c : nullptr; }
float* part(float* p, const BatchNormShape& s, int64_t n0) { return p ? p + n0 * s.plane * s.c : nullptr; }

void partial(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const float* pivot, double* sum,
             double* sum_sq) {
  channel_sums("batch_norm sums", (n1 - n0) * s.plane, s.c, AboutPivot{part(x, s, n0), pivot, s.c}, AddTo{sum, sum_sq});
}

void apply(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const BatchNormAffine& affine,
           const BatchNormResidual& residual, bool relu, float* y) {
  const BatchNormResidual added{part(residual.values, s, n0), residual.affine};
  const BatchNormAffine& other = residual.affine;
  const bool aligned = aligned16(part(x, s, n0), part(y, s, n0), added.values, affine.mean, affine.scale, affine.bias,
                                 other.mean, other.scale, other.bias);
  for_pixels("batch_norm", {1, 1, (n1 - n0) * s.plane, s.c}, aligned,
             Apply{part(x, s, n0), affine, added, relu, part(y, s, n0)});
}

void backward_partial(const BatchNormShape& s, int64_t n0, int64_t n1, const float* dy, const float* x,
                      const float* mean, const float* y, float* dz, double* sum_dz, double* sum_dz_x) {
  channel_sums("batch_norm backward sums", (n1 - n0) * s.plane, s.c,
               BackwardTerms{s.c, part(dy, s, n0), part(x, s, n0), mean, part(y, s, n0), part(dz, s, n0)},
               AddTo{sum_dz, sum_dz_x});
}

void backward_apply(const BatchNormShape& s, int64_t n0, int64_t n1, const float* dz, const float* x,
                    const BatchNormInputGradient& gradient, float* dx) {
  const BatchNormInputGradient& g = gradient;
  const bool aligned = aligned16(part(dz, s, n0), part(x, s, n0), part(dx, s, n0), g.mean, g.scale, g.center, g.slope);
  for_pixels("batch_norm backward", {1, 1, (n1 - n0) * s.plane, s.c}, aligned,
             BackwardApply{part(dz, s, n0), part(x, s, n0), gradient, part(dx, s, n0)});
}

void finish(int64_t c, int64_t m, const float* pivot, const double* sum, const double* sum_sq, double momentum,
            double eps, float* mean, float* rstd, float* running_mean, float* running_var) {
  for_positions(
      "batch_norm statistics", c,
      FromSums<BatchNormFinish>{sum, sum_sq, {m, pivot, momentum, eps, mean, rstd, running_mean, running_var}});
}

void backward_finish(int64_t c, int64_t m, const double* sum_dz, const double* sum_dz_x, const float* rstd,
                     const float* weight, float* scale, float* center, float* slope, float* dweight, float* dbias) {
  for_positions(
      "batch_norm backward statistics", c,
      FromSums<BatchNormBackwardFinish>{sum_dz, sum_dz_x, {m, rstd, weight, scale, center, slope, dweight, dbias}});
}

void factors(int64_t c, const float* rstd, const float* weight, const float* bias, float* scale, float* shift) {
  for_positions("batch_norm factors", c, ScaleAndBias{rstd, weight, bias, scale, shift});
}

struct Fold {
  int64_t terms;
  const float *w, *b, *weight, *bias, *mean, *var;
  double eps;
  float *folded, *offset;
  __device__ void operator()(int64_t at) const {
    const int64_t k = at / terms;
    const double factor = (weight ? double(weight[k]) : 1.0) / sqrt(double(var[k]) + eps);
    folded[at] = float(double(w[at]) * factor);
    if (at % terms == 0)
      offset[k] = float(((b ? double(b[k]) : 0.0) - double(mean[k])) * factor + (bias ? double(bias[k]) : 0.0));
  }
};

void fold(int64_t c_out, int64_t terms, const float* w, const float* b, const float* weight, const float* bias,
          const float* mean, const float* var, double eps, float* folded, float* offset) {
  for_positions("batch_norm folded", c_out * terms, Fold{terms, w, b, weight, bias, mean, var, eps, folded, offset});
}

// ---- whole ops ------------------------------------------------------------------------------------------------------

void statistics(const BatchNormShape& s, const float* x, double momentum, double eps, float* mean, float* rstd,
                float* running_mean, float* running_var) {
  const float* pivot = rows_of(s) > 0 ? x : nullptr;
  channel_sums("batch_norm statistics", rows_of(s), s.c, AboutPivot{x, pivot, s.c},
               BatchNormFinish{rows_of(s), pivot, momentum, eps, mean, rstd, running_mean, running_var});
}

void reciprocal_std(int64_t c, const float* var, double eps, float* rstd) {
  for_positions("batch_norm statistics", c, ReciprocalStd{var, eps, rstd});
}

void normalize(const BatchNormShape& s, const float* x, const float* mean, const float* rstd, const float* weight,
               const float* bias, float* y) {
  float *scale = workspace(kAffineWorkspace, 2 * s.c), *offset = scale + s.c;
  factors(s.c, rstd, weight, bias, scale, offset);
  apply(s, 0, s.n, x, {mean, scale, offset}, {}, false, y);
}

void backward(const BatchNormShape& s, bool training, const float* dy, const float* x, const float* mean,
              const float* rstd, const float* weight, float* dx, float* dweight, float* dbias) {
  float* scale = workspace(kAffineWorkspace, 3 * s.c);
  float *center = scale + s.c, *slope = scale + 2 * s.c;
  if (dweight || dbias || training)
    channel_sums("batch_norm backward sums", rows_of(s), s.c, BackwardTerms{s.c, dy, x, mean, nullptr, nullptr},
                 BatchNormBackwardFinish{rows_of(s), rstd, weight, scale, center, slope, dweight, dbias});
  else
    for_positions("batch_norm factors", s.c, ScaleAndBias{rstd, weight, nullptr, scale, nullptr});
  if (dx) backward_apply(s, 0, s.n, dy, x, {training ? mean : nullptr, scale, center, slope}, dx);
}

}  // namespace

BatchNormKernels batch_norm_kernels() {
  return {statistics,       reciprocal_std, normalize, backward,        partial, apply,
          backward_partial, backward_apply, finish,    backward_finish, factors, fold};
}

}  // namespace convcore::cuda

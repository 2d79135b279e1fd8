// subsampling2d: what comes after the sums of the windows, which are the kernels of avg_pool2d: a factor and a summand
// per channel, elementwise (images.cuh), and the sums of both gradients (channel_sums.cuh, plane_sums.cuh). Bytes: each
// array once.
#include "ops/subsampling2d.h"

#include "cuda/images.cuh"
#include "cuda/plane_sums.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct ScalePixels {
  const float *x, *weight, *bias;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(x + p.offset);
    const auto w = load_lanes<kLanes>(weight + p.c);
    const auto b = bias ? load_lanes<kLanes>(bias + p.c) : all_lanes<kLanes>(0.0f);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] = fmaf(v.at[l], w.at[l], b.at[l]);
    store_lanes(y + p.offset, v);
  }
};

struct ScalePlanes {  // seen as images (n, 1, c, plane): the "column" is the channel
  const float *x, *weight, *bias;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(x + p.offset);
    const float w = weight[p.w], b = bias ? bias[p.w] : 0.0f;
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] = fmaf(v.at[l], w, b);
    store_lanes(y + p.offset, v);
  }
};

struct Terms {
  const float *dy, *s;
  __device__ void operator()(int64_t, int64_t, int64_t offset, float* a, float* b) const {
    const float g = dy[offset];
    *a = g, *b = s ? g * s[offset] : 0.0f;
  }
};
struct TermsOfPixels {
  Terms terms;
  int64_t c;
  __device__ void operator()(int64_t row, int64_t column, float* a, float* b) const {
    terms(row, column, row * c + column, a, b);
  }
};
struct StoreGradients {
  float *dweight, *dbias;
  __device__ void operator()(int64_t channel, double sum, double products) const {
    if (dbias) dbias[channel] = float(sum);
    if (dweight) dweight[channel] = float(products);
  }
};

void scale(const ChannelsShape& s, const float* x, const float* weight, const float* bias, float* y) {
  if (s.layout == Layout::channels_last)
    for_pixels("subsampling2d", {s.n, 1, s.plane, s.c}, aligned16(x, weight, bias, y), ScalePixels{x, weight, bias, y});
  else
    for_pixels("subsampling2d", {s.n, 1, s.c, s.plane}, aligned16(x, y), ScalePlanes{x, weight, bias, y});
}

void sums(const ChannelsShape& s, const float* dy, const float* values, float* dweight, float* dbias) {
  const Terms terms{dy, dweight ? values : nullptr};
  const StoreGradients done{dweight, dbias};
  if (s.layout == Layout::channels_last)
    channel_sums("subsampling2d sums", s.n * s.plane, s.c, TermsOfPixels{terms, s.c}, done);
  else
    plane_sums("subsampling2d sums", s.n, s.c, s.plane, terms, done);
}

}  // namespace

Subsampling2dKernels subsampling2d_kernels() { return {scale, sums}; }

}  // namespace convcore::cuda

// adaptive_avg_pool2d: one thread per output forward, one per pixel of the input backward (pool2d.cuh), for four
// channels at a time (images.cuh). Bytes: each array once.
//
// Where windows are large (the mean over whole images), outputs are few and a thread each would wait for its loads one
// after the other: there a block of 32 channels x 8 makes one output, each eighth of its pixels, and they are added in
// order. Grid: x over outputs of 32 channels.
#include "ops/adaptive_avg_pool2d.h"

#include "cuda/pool2d.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Windows {
  int64_t c;
  AdaptiveAxis rows, columns;
  Windows(const AdaptiveAvgPool2dShape& s, int64_t c_) : c(c_), rows(s.h_in, s.h_out), columns(s.w_in, s.w_out) {}
};

struct Forward {
  Windows s;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range rows = s.rows.pixels_of(p.h), columns = s.columns.pixels_of(p.w);
    const float* image = x + p.n * s.rows.in * s.columns.in * s.c + p.c;
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t h = rows.begin; h < rows.end; h++)
      for (int64_t w = columns.begin; w < columns.end; w++) {
        const auto v = load_lanes<kLanes>(image + (h * s.columns.in + w) * s.c);
        CONVCORE_UNROLL
        for (int l = 0; l < kLanes; l++) sum.at[l] += v.at[l];
      }
    const float by = 1.0f / (rows.size() * columns.size());
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) sum.at[l] *= by;
    store_lanes(y + p.offset, sum);
  }
};

struct Backward {
  Windows s;
  const float* dy;
  float* dx;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const Range is = s.rows.windows_over(p.h), js = s.columns.windows_over(p.w);
    auto sum = all_lanes<kLanes>(0.0f);
    for (int64_t i = is.begin; i < is.end; i++)
      for (int64_t j = js.begin; j < js.end; j++) {
        const auto v = load_lanes<kLanes>(dy + ((p.n * s.rows.out + i) * s.columns.out + j) * s.c + p.c);
        const float by = 1.0f / (s.rows.pixels_of(i).size() * s.columns.pixels_of(j).size());
        CONVCORE_UNROLL
        for (int l = 0; l < kLanes; l++) sum.at[l] += v.at[l] * by;
      }
    store_lanes(dx + p.offset, sum);
  }
};

constexpr int kChannels = 32, kPixels = 8, kThreads = kChannels * kPixels;
constexpr int64_t kLargeWindow = 32;

CONVCORE_KERNEL(kThreads)
large_windows(Windows s, const float* x, float* y) {
  SharedMemory shared;
  float* sums = shared.array<float>(kThreads);
  const int64_t groups = (s.c + kChannels - 1) / kChannels, output = int64_t(blockIdx.x) / groups;
  const int64_t channel = int64_t(blockIdx.x) % groups * kChannels + int(threadIdx.x) % kChannels;
  const int64_t i = output / s.columns.out % s.rows.out, j = output % s.columns.out;
  const Range rows = s.rows.pixels_of(i), columns = s.columns.pixels_of(j);
  const int64_t width = columns.end - columns.begin, pixels = (rows.end - rows.begin) * width;
  const float* image = x + output / s.columns.out / s.rows.out * s.rows.in * s.columns.in * s.c;
  float sum = 0;
  if (channel < s.c) {
    int64_t h = rows.begin + int(threadIdx.x) / kChannels / width;
    int64_t w = columns.begin + int(threadIdx.x) / kChannels % width;
    for (int64_t pixel = int(threadIdx.x) / kChannels; pixel < pixels; pixel += kPixels) {
      sum += image[(h * s.columns.in + w) * s.c + channel];
      for (w += kPixels; w >= columns.end; w -= width) h++;
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= kChannels || channel >= s.c) return;
  for (int part = 1; part < kPixels; part++) sum += sums[part * kChannels + int(threadIdx.x)];
  y[output * s.c + channel] = sum / float(pixels);
}

void forward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* x, float* y) {
  if (s.planes * s.h_out * s.w_out == 0) return;
  const int64_t outputs = s.planes / c * s.h_out * s.w_out, groups = (c + kChannels - 1) / kChannels;
  const bool large = s.h_in * s.w_in >= kLargeWindow * s.h_out * s.w_out;
  if (c > 1 && large && outputs * groups <= INT32_MAX)
    launch("adaptive_avg_pool2d", large_windows, dim3(unsigned(outputs * groups)), kThreads,
           shared_bytes<float>(kThreads), Windows(s, c), x, y);
  else
    for_pixels("adaptive_avg_pool2d", {s.planes / c, s.h_out, s.w_out, c}, aligned16(x, y),
               Forward{Windows(s, c), x, y});
}
void forward(const AdaptiveAvgPool2dShape& s, const float* x, float* y) { forward_channels_last(s, 1, x, y); }
void backward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  if (c == 0) return;
  for_pixels("adaptive_avg_pool2d backward", {s.planes / c, s.h_in, s.w_in, c}, aligned16(dy, dx),
             Backward{Windows(s, c), dy, dx});
}
void backward(const AdaptiveAvgPool2dShape& s, const float* dy, float* dx) { backward_channels_last(s, 1, dy, dx); }

}  // namespace

AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels() {
  return {forward, backward, forward_channels_last, backward_channels_last};
}

}  // namespace convcore::cuda

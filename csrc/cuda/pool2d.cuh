// What the pooling kernels share: which pixels a window has, and which windows a pixel. Backward passes gather: a pixel
// of dx collects from the outputs whose windows span it, so that each is written once, in one order, with no atomics.
//
// Images are (n, h, w, c); a row-major plane is an image of one channel.
#pragma once
#include "cuda/images.cuh"
#include "ops/adaptive_avg_pool2d.h"
#include "ops/pool2d.h"

namespace convcore::cuda {

struct Range {
  int64_t begin, end;
  __device__ float size() const { return float(end - begin); }
};

// The input's pixels of window i along one axis, without those in the padding; stride 1 between them: no dilation.
struct WindowPixels {
  int64_t kernel, stride, before, in;
  WindowPixels(const WindowAxis& w, int64_t in_) : kernel(w.kernel), stride(w.stride), before(w.pad_before), in(in_) {}
  __device__ Range at(int64_t i) const {
    const int64_t start = i * stride - before, stop = start + kernel;
    return {start > 0 ? start : 0, stop < in ? stop : in};
  }
};

// The outputs whose windows may span a pixel, along one axis.
struct OutputsOver {
  int64_t before, extent, out;
  Divisor stride;
  int64_t stride_less_one;
  OutputsOver(const WindowAxis& w, int64_t out_)
      : before(w.pad_before),
        extent(w.dilation * (w.kernel - 1)),
        out(out_),
        stride(w.stride),
        stride_less_one(w.stride - 1) {}
  __device__ Range at(int64_t pixel) const {
    const int64_t from = pixel + before - extent, end = stride.quotient(pixel + before) + 1;
    return {from <= 0 ? 0 : stride.quotient(from + stride_less_one), end < out ? end : out};
  }
};

// Adaptive pooling along one axis: the pixels of window i, and the windows over a pixel.
struct AdaptiveAxis {
  int64_t in, out;
  Divisor by_in, by_out;
  AdaptiveAxis(int64_t in_, int64_t out_) : in(in_), out(out_), by_in(in_), by_out(out_) {}
  __device__ Range pixels_of(int64_t i) const {
    return {by_out.quotient(i * in), by_out.quotient((i + 1) * in + out - 1)};
  }
  __device__ Range windows_over(int64_t pixel) const {  // begin <= pixel < end of window i
    return {by_in.quotient(pixel * out), by_in.quotient((pixel + 1) * out + in - 1)};
  }
};

// The largest value of a window and where it is: the first of equal ones, the last NaN.
template <int kLanes>
struct Largest {
  Lanes<float, kLanes> value = all_lanes<kLanes>(0.0f);
  Lanes<int32_t, kLanes> index = all_lanes<kLanes>(int32_t(-1));
  __device__ void meet(const float* x, int64_t position) {
    const auto v = load_lanes<kLanes>(x);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++)
      if (index.at[l] < 0 || v.at[l] > value.at[l] || v.at[l] != v.at[l])
        value.at[l] = v.at[l], index.at[l] = int32_t(position);
  }
  __device__ void store(float* y, int32_t* indices) const {
    store_lanes(y, value);
    if (indices) store_lanes(indices, index);
  }
};

// sum += dy where the output's index is `position`
template <int kLanes>
CONVCORE_DEVICE void add_where(const int32_t* indices, const float* dy, int64_t position, Lanes<float, kLanes>* sum) {
  const auto index = load_lanes<kLanes>(indices);
  const auto value = load_lanes<kLanes>(dy);
  CONVCORE_UNROLL
  for (int l = 0; l < kLanes; l++)
    if (index.at[l] == int32_t(position)) sum->at[l] += value.at[l];
}

}  // namespace convcore::cuda

// What kernels with one warp per row share.
//
// Grid: eight rows per block at a time, at most kMostRowBlocks blocks; a warp goes through its rows a grid apart.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kRowThreads = 256;
constexpr int64_t kMostRowBlocks = 132 * 8 * 4;

CONVCORE_DEVICE int lane() { return int(threadIdx.x) % kWarp; }

// work(row) for the rows of this warp: all its lanes together.
template <typename Work>
CONVCORE_DEVICE void for_each_row(int64_t rows, Work work) {
  constexpr int kWarps = kRowThreads / kWarp;
  for (int64_t row = int64_t(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp; row < rows;
       row += int64_t(gridDim.x) * kWarps)
    work(row);
}

// The largest of x[0], x[stride], ..., in every lane; NaN if there is one.
CONVCORE_DEVICE float row_max(const float* x, int64_t count, int64_t stride) {
  float high = -INFINITY;
  for (int64_t c = lane(); c < count; c += kWarp) {
    const float value = x[c * stride];
    if (!(high >= value)) high = high != high ? high : value;
  }
  return warp_max(high);
}

template <typename... Parameters, typename... Arguments>
void launch_rows(const char* name, void (*kernel)(Parameters...), int64_t rows, Arguments... arguments) {
  if (rows == 0) return;
  const int64_t blocks = (rows + kRowThreads / kWarp - 1) / (kRowThreads / kWarp);
  launch(name, kernel, dim3(unsigned(blocks < kMostRowBlocks ? blocks : kMostRowBlocks)), kRowThreads, 0, arguments...);
}

}  // namespace convcore::cuda

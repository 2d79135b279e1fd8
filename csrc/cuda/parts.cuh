// Adds up the parts of many sums, that blocks left in a workspace: parts (parts, sums), in order, in double.
//
// Grid: x over 32 sums. Block: 32 sums x 8, each an eighth of the parts. Bytes: the parts once.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kPartColumns = 32, kPartRows = 8, kPartThreads = kPartColumns * kPartRows;

namespace detail {

// done(number of the sum, its value)
template <typename Done>
CONVCORE_KERNEL(kPartThreads)
add_parts(int64_t parts_count, int64_t sums_count, const float* parts, Done done) {
  SharedMemory shared;
  double* sums = shared.array<double>(kPartThreads);
  const int64_t at = int64_t(blockIdx.x) * kPartColumns + int(threadIdx.x) % kPartColumns;
  double sum = 0;
  for (int64_t part = int(threadIdx.x) / kPartColumns; part < parts_count && at < sums_count; part += kPartRows)
    sum += double(parts[part * sums_count + at]);
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= kPartColumns || at >= sums_count) return;
  for (int row = 1; row < kPartRows; row++) sum += sums[row * kPartColumns + int(threadIdx.x)];
  done(at, float(sum));
}

}  // namespace detail

template <typename Done>
void add_parts(const char* name, int64_t parts_count, int64_t sums_count, const float* parts, Done done) {
  if (sums_count == 0) return;
  launch(name, detail::add_parts<Done>, dim3(blocks_for(sums_count, kPartColumns)), kPartThreads,
         shared_bytes<double>(kPartThreads), parts_count, sums_count, parts, done);
}

}  // namespace convcore::cuda

// Sums over the blocks of a kernel, finished inside of it: each block stores its part, and the last one to arrive adds
// all parts, in the order of the blocks. So the bits are the same whichever block is the last.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

// Parts of two sums per channel: (blocks, channel_pairs(c), 4), the four being both sums of two channels.
inline __host__ __device__ int64_t channel_pairs(int64_t c) { return (c + 1) / 2; }
CONVCORE_DEVICE float* part_of(float* parts, int64_t block, int64_t c, int64_t channel) {
  return parts + (block * channel_pairs(c) + channel / 2) * 4 + channel % 2 * 2;
}

// Says, in all threads, whether this block is the last of `blocks` to come here: then it sees what all of them stored
// before. `arrivals` is 0 before the kernel and after it. `flag`: shared.
CONVCORE_DEVICE bool last_to_arrive(unsigned* arrivals, unsigned blocks, int* flag) {
  __syncthreads();  // all of the block has stored
  if (threadIdx.x == 0) {
    __threadfence();  // what was stored can be seen before the arrival
    const bool last = atomicAdd(arrivals, 1u) == blocks - 1;
    __threadfence();
    if (last) *arrivals = 0;
    *flag = last;
  }
  __syncthreads();
  return *flag != 0;
}

// done(channel, first, second) with the sums over the parts of all blocks, in double. A thread adds every n-th part of
// two channels, with n by the number of channels. `totals`: 4 * kThreads shared numbers.
template <int kThreads, typename Done>
CONVCORE_DEVICE void add_parts(const float* parts, int64_t blocks, int64_t c, double* totals, const Done& done) {
  const auto pairs = int(channel_pairs(c));
  int lanes = 1;
  while (lanes < pairs && lanes < kThreads) lanes *= 2;
  const int thread = int(threadIdx.x), slices = kThreads / lanes;
  for (int first = 0; first < pairs; first += lanes) {
    const int pair = first + thread % lanes;
    double sum[4] = {};
    if (pair < pairs)
      for (int64_t block = thread / lanes; block < blocks; block += slices) {
        const float4 part = load4_of_others(parts + (block * pairs + pair) * 4);
        sum[0] += double(part.x), sum[1] += double(part.y), sum[2] += double(part.z), sum[3] += double(part.w);
      }
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++) totals[4 * thread + i] = sum[i];
    __syncthreads();
    for (int i = thread; i < 2 * lanes; i += kThreads) {
      const int channel = 2 * first + i;
      if (channel >= c) continue;
      double a = 0, b = 0;
      for (int slice = 0; slice < slices; slice++) {
        const double* total = totals + 4 * (slice * lanes + i / 2) + i % 2 * 2;
        a += total[0], b += total[1];
      }
      done(channel, a, b);
    }
    __syncthreads();  // before the totals are overwritten
  }
}

}  // namespace convcore::cuda

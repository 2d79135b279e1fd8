// mse_loss: elementwise, and one block per shard for the sums. Bytes: each array once.
#include "ops/mse_loss.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Squares {
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const float d = in[0] - in[1];
    out[0] = d * d;
  }
};

constexpr int kThreads = 256;

CONVCORE_KERNEL(kThreads)
sum_shard(int64_t count, const float* x, const float* target, double* sums) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kThreads / kWarp);
  const int64_t begin = int64_t(blockIdx.x) * kMseShard;
  const int64_t end = begin + kMseShard < count ? begin + kMseShard : count;
  float sum = 0;  // of at most kMseShard / kThreads squares
  for (int64_t i = begin + int(threadIdx.x); i < end; i += kThreads) {
    const float d = x[i] - target[i];
    sum = fmaf(d, d, sum);
  }
  const double total = block_sum<kThreads>(double(sum), scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

struct Backward {
  float factor;
  const float* dy;
  bool dy_per_element;
  __device__ void operator()(int64_t i, const float* in, float* out) const {
    out[0] = factor * dy[dy_per_element ? i : 0] * (in[0] - in[1]);
  }
};

void squares(int64_t count, const float* x, const float* target, float* loss) {
  for_elements("mse_loss", count, ElementArrays<2, 1>{{x, target}, {loss}}, Squares{});
}
void shard_sums(int64_t count, const float* x, const float* target, double* sums) {
  if (count == 0) return;
  launch("mse_loss sums", sum_shard, dim3(blocks_for(count, kMseShard)), kThreads,
         shared_bytes<double>(kThreads / kWarp), count, x, target, sums);
}
void backward(int64_t count, float factor, const float* dy, bool dy_per_element, const float* x, const float* target,
              float* grad) {
  for_elements("mse_loss backward", count, ElementArrays<2, 1>{{x, target}, {grad}},
               Backward{factor, dy, dy_per_element});
}

}  // namespace

MseLossKernels mse_loss_kernels() { return {squares, shard_sums, backward}; }

}  // namespace convcore::cuda

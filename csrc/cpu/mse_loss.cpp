// mse_loss: one pass over contiguous memory; the sum in shards whose bounds depend on the number of elements alone.
#include "ops/mse_loss.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- forward ------------------------------------------------------------------------------------------------------

static void squares(int64_t count, const float* x, const float* target, float* loss) {
  parallel_for_each_vector(count, 3, [&](int64_t i, int64_t lanes) {
    const Vec d = load_lanes(x + i, lanes) - load_lanes(target + i, lanes);
    store_lanes(loss + i, d * d, lanes);
  });
}

static void shard_sums(int64_t count, const float* x, const float* target, double* sums) {
  const int64_t shards = (count + kMseShard - 1) / kMseShard;
  parallel_for(shards, kMseShard * 3, [&](int64_t begin, int64_t end) {
    for (int64_t shard = begin; shard < end; shard++) {
      const int64_t first = shard * kMseShard;
      Vec total{};
      for_each_vector(min_of(kMseShard, count - first), [&](int64_t i, int64_t lanes) {
        const Vec d = load_lanes(x + first + i, lanes) - load_lanes(target + first + i, lanes);
        total += d * d;
      });
      sums[shard] = double(sum(total));
    }
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

static void backward(int64_t count, float factor, const float* dy, bool dy_per_element, const float* x,
                     const float* target, float* grad) {
  const Vec one_dy = dy_per_element ? Vec{} : splat(dy[0]);
  parallel_for_each_vector(count, 4, [&](int64_t i, int64_t lanes) {
    const Vec d = load_lanes(x + i, lanes) - load_lanes(target + i, lanes);
    const Vec by = dy_per_element ? load_lanes(dy + i, lanes) : one_dy;
    store_lanes(grad + i, by * factor * d, lanes);
  });
}

MseLossKernels mse_loss_kernels();
MseLossKernels mse_loss_kernels() { return {squares, shard_sums, backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

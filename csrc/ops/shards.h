// Sums over the images of a batch that have the same bits at any number of threads.
#pragma once
#include "core/array.h"
#include "core/threads.h"

namespace convcore {

// Sums `a` and `b`, of `size` numbers each, over `n` images: partial sums over shards of the images, which the shape
// alone decides, added up in order, in double. f(begin, end, a, b) overwrites a and b with the sums over the images
// begin to end - 1; `work` is the cost of one image. A sum that is not given is not made: f gets null in its place.
template <typename F>
void sum_over_images(const char* op, int64_t n, int64_t work, int64_t size, const Tensor& a, const Tensor& b,
                     const F& f) {
  if (current_device() == Device::cuda) {  // its kernels sum a whole batch in a fixed order
    f(0, n, a.data(), b.data());
    return;
  }
  constexpr int64_t kMostShards = 16;  // enough for an even split
  const int64_t shards = n < kMostShards ? n : kMostShards;
  const Tensor parts = Tensor::empty(op, "the partial sums", {shards, 2, size});
  parallel_for(shards, shards > 0 ? n / shards * work : 0, [&](int64_t begin, int64_t end) {
    for (int64_t shard = begin; shard < end; shard++) {
      float* part = parts.data() + shard * 2 * size;
      f(n * shard / shards, n * (shard + 1) / shards, a.given() ? part : nullptr, b.given() ? part + size : nullptr);
    }
  });
  const auto add_up = [&](const Tensor& total, const float* first) {
    for (int64_t k = 0; total.given() && k < size; k++) {
      double sum = 0;
      for (int64_t shard = 0; shard < shards; shard++) sum += double(first[shard * 2 * size + k]);
      total.data()[k] = float(sum);
    }
  };
  add_up(a, parts.data());
  add_up(b, parts.data() + size);
}

}  // namespace convcore

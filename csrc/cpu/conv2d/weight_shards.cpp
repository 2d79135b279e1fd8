#include "cpu/conv2d/weight_shards.h"

#include "core/threads.h"

namespace convcore::cpu::CONVCORE_ISA {

void sum_weight_parts(const WeightParts& p, float* dw) {
  const int64_t rows = p.c_in * p.taps;  // of dw, (c, tap), for each k
  parallel_for(ceil_div(rows, kLanes), (p.shards + 3) * p.row(), [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; group++) {
      const int64_t row0 = group * kLanes, count = min_of<int64_t>(kLanes, rows - row0);
      const float* from[kLanes];
      for (int64_t i = 0; i < count; i++) from[i] = p.at(0, (row0 + i) % p.taps, (row0 + i) / p.taps);
      for (int64_t k = 0; k < p.c_out; k += kLanes) {
        Vec sums[kLanes] = {};
        for (int64_t i = 0; i < count; i++) {
          sums[i] = load(from[i] + k);
          for (int64_t s = 1; s < p.shards; s++) sums[i] += load(from[i] + s * p.stride + k);
        }
        transpose(sums);
        for (int64_t j = 0; j < min_of<int64_t>(kLanes, p.c_out - k); j++)
          store_partial(dw + (k + j) * rows + row0, sums[j], count);
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA

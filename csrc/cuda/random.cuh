// Counter-based random numbers: core/random.h, the same function.
#pragma once
#include "core/random.h"
#include "cuda/device.cuh"

namespace convcore::cuda {

CONVCORE_DEVICE Philox philox_at(RandomKey key, uint64_t block) {
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(key.stream), c3 = uint32_t(key.stream >> 32);
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  CONVCORE_UNROLL
  for (int round = 0; round < 10; round++) {
    const uint32_t a_high = __umulhi(0xD2511F53u, c0), a_low = 0xD2511F53u * c0;
    const uint32_t b_high = __umulhi(0xCD9E8D57u, c2), b_low = 0xCD9E8D57u * c2;
    c0 = b_high ^ c1 ^ k0, c1 = b_low, c2 = a_high ^ c3 ^ k1, c3 = a_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

CONVCORE_DEVICE RandomKey substream_of(RandomKey key, uint64_t item, uint64_t use) {
  const Philox names = philox_at(key, item | use << 48);
  return {names.value[0] | uint64_t(names.value[1]) << 32, names.value[2] | uint64_t(names.value[3]) << 32};
}

}  // namespace convcore::cuda

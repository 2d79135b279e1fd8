// Counter-based random numbers: Philox4x32-10.
//
// A number is a pure function of (seed, stream, index), so any thread can make any number of a stream, in any order,
// and a training repeats bit for bit at any thread count and after a resume.
//
// Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
#pragma once
#include <cstdint>

namespace convcore {

struct RandomKey {
  uint64_t seed;    // chosen by the user
  uint64_t stream;  // counts the draws since the seed was set
};

struct Philox {
  uint32_t value[4];
};

// The four 32-bit numbers at position `block` of a stream.
static inline Philox philox(RandomKey key, uint64_t block) {
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(key.stream), c3 = uint32_t(key.stream >> 32);
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ k0;
    c1 = uint32_t(b);
    c2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c3 = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A stream for the `use`-th use of random numbers for one of many items, such as the images of a data set: what becomes
// of an item does not depend on the others. item < 2^48, use < 2^16.
static inline RandomKey substream(RandomKey key, uint64_t item, uint64_t use) {
  const Philox names = philox(key, item | use << 48);
  return {names.value[0] | uint64_t(names.value[1]) << 32, names.value[2] | uint64_t(names.value[3]) << 32};
}

// Uniform in [0, 1): 24 bits, every value exactly representable.
static inline float uniform_float(uint32_t bits) { return float(bits >> 8) * (1.0f / 16777216.0f); }

}  // namespace convcore

// Philox4x32-10 by vectors: number i of a stream is number i % 4 of block i / 4 (core/random.h).
//
// A vector holds one counter word of kLanes / 2 blocks, one per 64-bit lane, so that a round is two widening
// multiplications for all of them. The four words of a block are interleaved back into the order of the numbers at the
// end.
//
// Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include "core/random.h"
#include "cpu/vec.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convcore::cpu::CONVCORE_ISA {

typedef uint64_t Words __attribute__((vector_size(kLanes * 4)));  // 32-bit words, each in a 64-bit lane
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4)));
constexpr int kBlocks = kLanes / 2;      // Philox blocks made at once
constexpr int64_t kChunk = 4 * kBlocks;  // numbers they give: two vectors

// multiply: the 64-bit products of the lower halves of the lanes; the upper halves are not read.
// pairs_first, pairs_second: lanes (a0, b0, a1, b1, ...), first and second half, when lane_block says which block a
// lane holds.
#if defined(__AVX512F__)
CONVCORE_INLINE Words multiply(Words a, Words b) { return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b); }
CONVCORE_INLINE Words pairs_first(Words a, Words b) {
  return (Words)_mm512_maskz_unpacklo_epi64(0xff, (__m512i)a, (__m512i)b);
}
CONVCORE_INLINE Words pairs_second(Words a, Words b) {
  return (Words)_mm512_maskz_unpackhi_epi64(0xff, (__m512i)a, (__m512i)b);
}
#elif defined(__AVX2__)
CONVCORE_INLINE Words multiply(Words a, Words b) { return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
CONVCORE_INLINE Words pairs_first(Words a, Words b) { return (Words)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
CONVCORE_INLINE Words pairs_second(Words a, Words b) { return (Words)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
#else
#if defined(__SSE2__)
CONVCORE_INLINE Words multiply(Words a, Words b) { return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#else
CONVCORE_INLINE Words multiply(Words a, Words b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif
CONVCORE_INLINE Words pairs_first(Words a, Words b) { return Words{a[0], b[0]}; }
CONVCORE_INLINE Words pairs_second(Words a, Words b) { return Words{a[1], b[1]}; }
#endif

// The unpack instructions pair even lanes in one result and odd lanes in the other: even lanes hold the first blocks.
constexpr int lane_block(int lane) { return lane / 2 + (lane % 2) * (kBlocks / 2); }

CONVCORE_INLINE Words splat_words(uint64_t s) { return s + Words{}; }

struct LaneBlocks {
  uint64_t block[kBlocks];
};
constexpr LaneBlocks lane_blocks() {
  LaneBlocks blocks{};
  for (int lane = 0; lane < kBlocks; lane++) blocks.block[lane] = uint64_t(lane_block(lane));
  return blocks;
}

struct RoundKeys {
  static constexpr int kRounds = 10;
  uint64_t first[kRounds], second[kRounds];

  explicit RoundKeys(uint64_t seed) {
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < kRounds; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      first[round] = k0;
      second[round] = k1;
    }
  }
};

// Two vectors of random bits: the numbers of the stream from number 4 * block on.
CONVCORE_INLINE void philox_chunk(const RoundKeys& keys, uint64_t stream, uint64_t block, Bits* first, Bits* second) {
  static constexpr LaneBlocks blocks = lane_blocks();
  Words position;
  memcpy(&position, blocks.block, sizeof position);
  position += block;
  // The upper halves of the lanes hold remains of the products; multiply does not read them.
  Words c0 = position, c1 = position >> 32, c2 = splat_words(stream), c3 = c2 >> 32;
#pragma GCC unroll 10
  for (int round = 0; round < RoundKeys::kRounds; round++) {
    const Words a = multiply(c0, splat_words(0xD2511F53u)), b = multiply(c2, splat_words(0xCD9E8D57u));
    c0 = (b >> 32) ^ c1 ^ splat_words(keys.first[round]);
    c1 = b;
    c2 = (a >> 32) ^ c3 ^ splat_words(keys.second[round]);
    c3 = a;
  }
  const Words low = splat_words(0xffffffffu), head = (c0 & low) | c1 << 32, tail = (c2 & low) | c3 << 32;
  *first = (Bits)pairs_first(head, tail);
  *second = (Bits)pairs_second(head, tail);
}

}  // namespace convcore::cpu::CONVCORE_ISA

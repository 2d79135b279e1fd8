// dropout: y = x * mask / (1 - p), the mask made on the way.
//
// Element i takes number i of the stream (cpu/philox.h): some 3 instructions per element at 512 bits, which take longer
// than the memory does.
#include "ops/dropout.h"

#include "cpu/elementwise.h"
#include "cpu/philox.h"

namespace convcore::cpu::CONVCORE_ISA {

CONVCORE_INLINE Vec masked(Vec x, Bits bits, const DropoutMask& mask) {
  const IntVec kept = (IntVec)(bits >> 8) >= splat_int(mask.threshold);
  return x * select(kept, splat(mask.scale), Vec{});  // a product, so that NaN stays
}

// The elements before the first whole chunk, of which there are `count`.
static void apply_to_head(int64_t count, RandomKey key, const DropoutMask& mask, const float* x, float* y) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t at = mask.first + i;
    const uint32_t bits = philox(key, uint64_t(at / 4)).value[at % 4];
    y[i] = (x ? x[i] : 1.0f) * (int32_t(bits >> 8) >= mask.threshold ? mask.scale : 0.0f);
  }
}

static void dropout_apply(int64_t count, const RandomKey* given_key, const DropoutMask& given, const float* x,
                          float* y) {
  const RandomKey key = *given_key;
  const int64_t head = min_of(count, (kChunk - given.first % kChunk) % kChunk);
  const uint64_t first_block = uint64_t(given.first + head) / 4;
  apply_to_head(head, key, given, x, y);
  count -= head, x += x ? head : 0, y += head;
  parallel_for((count + kChunk - 1) / kChunk, 2 * kChunk, [=](int64_t begin, int64_t end) {
    const DropoutMask mask = given;  // local, as the keys: vectors that are stored may alias all other memory
    const RoundKeys keys(key.seed);
    for (int64_t chunk = begin; chunk < end; chunk++) {
      const int64_t i = chunk * kChunk, left = count - i;
      Bits bits[2];
      philox_chunk(keys, key.stream, first_block + uint64_t(chunk) * kBlocks, &bits[0], &bits[1]);
#pragma GCC unroll 2
      for (int64_t half = 0; half < 2; half++) {
        const int64_t at = i + half * kLanes, lanes = min_of<int64_t>(kLanes, left - half * kLanes);
        if (lanes > 0) store_lanes(y + at, masked(x ? load_lanes(x + at, lanes) : splat(1), bits[half], mask), lanes);
      }
    }
  });
}

static void apply_to_channels(const ChannelsShape& s, const float* x, const float* mask, float* y) {
  const bool last = s.layout == Layout::channels_last;
  // Runs of memory that share a factor, or a row of factors: planes, or pixels.
  const int64_t runs = last ? s.n * s.plane : s.n * s.c, length = last ? s.c : s.plane;
  parallel_for(runs, length, [=](int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; run++) {
      const float *from = x + run * length, *factors = last ? mask + run / s.plane * s.c : mask + run;
      float* to = y + run * length;
      for_each_vector(length, [=](int64_t i, int64_t lanes) {
        store_lanes(to + i, load_lanes(from + i, lanes) * (last ? load_lanes(factors + i, lanes) : splat(*factors)),
                    lanes);
      });
    }
  });
}

DropoutKernels dropout_kernels();
DropoutKernels dropout_kernels() { return {dropout_apply, apply_to_channels}; }

}  // namespace convcore::cpu::CONVCORE_ISA

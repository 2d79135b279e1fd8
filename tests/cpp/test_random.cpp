// Philox4x32-10 against the known answers that come with Random123 (Salmon et al., SC 2011).
#include "core/random.h"

#include "helpers.h"

namespace convcore {
namespace {

struct KnownAnswer {
  uint32_t counter[4], key[2], result[4];
};

const KnownAnswer kKnownAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

uint64_t join(uint32_t low, uint32_t high) { return uint64_t(high) << 32 | low; }

TEST_CASE("philox gives the known answers") {
  for (const KnownAnswer& known : kKnownAnswers) {
    const RandomKey key{join(known.key[0], known.key[1]), join(known.counter[2], known.counter[3])};
    const Philox got = philox(key, join(known.counter[0], known.counter[1]));
    for (int i = 0; i < 4; i++) CHECK(got.value[i] == known.result[i]);
  }
}

TEST_CASE("uniform_float lies in [0, 1) and is exact") {
  CHECK(uniform_float(0) == 0.0f);
  CHECK(uniform_float(0xffffffff) == 1.0f - 0x1p-24f);
  CHECK(uniform_float(0x80000000) == 0.5f);
}

}  // namespace
}  // namespace convcore

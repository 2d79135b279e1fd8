// What a thread will read and write next: kernels with much to compute fetch it into the cache on the way.
//
// A plan takes the images of a batch block by block through the steps of a phase. The first steps on a block wait for
// memory, while later ones, which multiply matrices, leave the memory idle. So the plan says before each block what the
// next one will touch, and the kernels that multiply prefetch some lines of it between their products (fetch_ahead in
// cpu/vec.h). Nothing depends on it but time.
#pragma once
#include <cstdint>

namespace convcore {

struct Ahead {
  static constexpr int kMost = 8;
  struct Range {
    const char *at, *end;
  };
  Range ranges[kMost];
  int count;

  void add(const float* begin, int64_t floats) {
    if (count < kMost && floats > 0)
      ranges[count++] = {reinterpret_cast<const char*>(begin), reinterpret_cast<const char*>(begin + floats)};
  }
};

// The calling thread's own; empty unless a plan is running.
Ahead& ahead();

}  // namespace convcore

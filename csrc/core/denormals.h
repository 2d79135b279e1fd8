// Denormals: floats below 2^-126, on which many processors compute a hundred times slower than on others. Activations
// and gradients that fade away end there, so a network can become slow while it trains. Kernels take them as zero.
//
// A FlushDenormals lets the thread it lives on read denormals as zero and write zero instead of them, and gives the
// floating-point mode back as it was, with the exception flags: no caller sees that our calls compute in another mode,
// and no thread that the OpenMP runtime lends to another library keeps it. parallel_for has one on each of its threads.
#pragma once
#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace convcore {

class FlushDenormals {
 public:
  FlushDenormals() : before_(mode()) { set_mode(before_ | kFlush); }
  ~FlushDenormals() { set_mode(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__SSE2__)
  static constexpr uint64_t kFlush = 0x8040;  // of MXCSR: FTZ, results; DAZ, operands
  static uint64_t mode() { return _mm_getcsr(); }
  static void set_mode(uint64_t bits) { _mm_setcsr(uint32_t(bits)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kFlush = uint64_t(1) << 24;  // of FPCR: FZ, operands and results
  static uint64_t mode() {
    uint64_t bits;
    asm volatile("mrs %0, fpcr" : "=r"(bits)::"memory");
    return bits;
  }
  static void set_mode(uint64_t bits) { asm volatile("msr fpcr, %0" ::"r"(bits) : "memory"); }
#else
  static constexpr uint64_t kFlush = 0;
  static uint64_t mode() { return 0; }
  static void set_mode(uint64_t) {}
#endif

  uint64_t before_;
};

}  // namespace convcore

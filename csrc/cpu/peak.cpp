// Loops that do nothing but run into one limit of the machine.
#include "cpu/kernels.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

// Enough independent sums to hide the latency of a multiply-add (4 cycles, two per cycle: 8), and few enough that they
// stay in registers beside the operands.
constexpr int kSums = kRegisters == 32 ? 24 : 12;
constexpr int kFactors = 64;  // steps until the broadcast operands repeat: kSums * kFactors floats stay in L1

int64_t flops(int64_t steps) { return steps * kSums * kLanes * 2; }

void finish(Vec (&sums)[kSums], float* out) {
  Vec total{};
#pragma GCC unroll 24
  for (int i = 0; i < kSums; i++) total += sums[i];
  store(out, total);
}

// sum = sum * factor + term has the fixed point 1: no overflow, no denormal numbers, at any number of steps. The sums
// start from different values: equal ones would be computed once.
int64_t fma(int64_t steps, float* out) {
  const Vec factor = splat(0.5f) + load(out) * splat(0.0f), term = factor;  // the compiler may not know them
  Vec sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; i++) sums[i] = term + splat(float(i));
  for (int64_t step = 0; step < steps; step++)
#pragma GCC unroll 24
    for (int i = 0; i < kSums; i++) sums[i] = sums[i] * factor + term;
  finish(sums, out);
  return flops(steps);
}

int64_t fma_broadcast(int64_t steps, float* out) {
  alignas(64) float factors[kFactors * kSums];
  for (int i = 0; i < kFactors * kSums; i++) factors[i] = i % (2 * kSums) < kSums ? 1.0f : -1.0f;
  const Vec term = splat(0.5f) + load(out) * splat(0.0f);
  Vec sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; i++) sums[i] = Vec{};
  for (int64_t step = 0; step < steps; step++) {
    const float* factor = factors + step % kFactors * kSums;
#pragma GCC unroll 24
    for (int i = 0; i < kSums; i++) sums[i] += term * splat(factor[i]);
  }
  finish(sums, out);
  return flops(steps);
}

void read(const float* x, int64_t count, float* out) {
  constexpr int kStreams = 8;
  Vec sums[kStreams] = {};
  for (int64_t i = 0; i + kStreams * kLanes <= count; i += kStreams * kLanes)
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; s++) sums[s] += load(x + i + s * kLanes);
#pragma GCC unroll 8
  for (int s = 1; s < kStreams; s++) sums[0] += sums[s];
  store(out, sums[0]);
}

void copy(const float* x, int64_t count, float* y) {
  constexpr int kStreams = 4;
  for (int64_t i = 0; i + kStreams * kLanes <= count; i += kStreams * kLanes)
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; s++) store(y + i + s * kLanes, load(x + i + s * kLanes));
}

}  // namespace

PeakKernels peak_kernels();
PeakKernels peak_kernels() { return {fma, fma_broadcast, read, copy}; }

}  // namespace convcore::cpu::CONVCORE_ISA

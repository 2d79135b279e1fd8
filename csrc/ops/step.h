// What a recorded step of a training does beside its ops: fetch what is new in this step, and keep its result. Entries
// of the CUDA table alone (null on the CPU): a graph of kernels is recorded once and replayed, so what changes from
// step to step (indices of images, labels, random numbers' keys, factors of the optimizer) lies in device memory, one
// record per step, and the first kernel of a step copies the next record to where the others read it
// (plan/recorded.cpp).
#pragma once
#include <cstdint>

namespace convcore {

struct StepKernels {
  // Copies record number *counter of `bytes` bytes (a multiple of 8) to `current`; then counts.
  void (*load)(int64_t bytes, const void* records, int64_t* counter, void* current);
  // results[*counter - 1] = {the sum of `count` losses, the sum of `samples` right answers (0 without)}
  void (*result)(int64_t count, const float* losses, int64_t samples, const float* right /* or null */,
                 const int64_t* counter, double* results);
};

}  // namespace convcore

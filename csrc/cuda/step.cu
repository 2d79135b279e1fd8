// The first and the last kernel of a recorded step: one block each, some kilobytes.
#include "ops/step.h"

#include "cuda/device.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256;

CONVCORE_KERNEL(kThreads)
load_record(int64_t words, const int64_t* records, int64_t* counter, int64_t* current) {
  const int64_t number = *counter;
  for (int64_t i = int(threadIdx.x); i < words; i += kThreads) current[i] = records[number * words + i];
  __syncthreads();  // all have read the counter
  if (threadIdx.x == 0) *counter = number + 1;
}

CONVCORE_KERNEL(kThreads)
keep_result(int64_t count, const float* losses, int64_t samples, const float* right, const int64_t* counter,
            double* results) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kThreads / kWarp);
  double loss = 0, hits = 0;
  for (int64_t i = int(threadIdx.x); i < count; i += kThreads) loss += double(losses[i]);
  for (int64_t i = int(threadIdx.x); right && i < samples; i += kThreads) hits += double(right[i]);
  loss = block_sum<kThreads>(loss, scratch);
  hits = block_sum<kThreads>(hits, scratch);
  if (threadIdx.x == 0) {
    double* result = results + 2 * (*counter - 1);
    result[0] = loss, result[1] = hits;
  }
}

void load(int64_t bytes, const void* records, int64_t* counter, void* current) {
  launch("record of a step", load_record, dim3(1), kThreads, 0, bytes / 8, static_cast<const int64_t*>(records),
         counter, static_cast<int64_t*>(current));
}

void result(int64_t count, const float* losses, int64_t samples, const float* right, const int64_t* counter,
            double* results) {
  launch("result of a step", keep_result, dim3(1), kThreads, shared_bytes<double>(kThreads / kWarp), count, losses,
         samples, right, counter, results);
}

}  // namespace

StepKernels step_kernels() { return {load, result}; }

}  // namespace convcore::cuda

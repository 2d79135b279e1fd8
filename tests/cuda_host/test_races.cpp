// The race detector itself (only in cuda_host_races): it reports the races that are seeded here, and nothing else.
#include "helpers.h"

namespace {
// Not seen by the detector, which calls what follows.
#define CONVCORE_UNSEEN __attribute__((no_sanitize_thread))
int found = 0;
bool expected = false;
CONVCORE_UNSEEN int take_found() { return std::exchange(found, 0); }
CONVCORE_UNSEEN void expect(bool races) { expected = races; }
}  // namespace

namespace __tsan {
class ReportDesc;
// The detector's hook: whether not to print a report, nor to count it for the exit status.
__attribute__((visibility("default"))) CONVCORE_UNSEEN bool OnReport(const ReportDesc*, bool suppressed) {
  found++;
  return expected || suppressed;
}
}  // namespace __tsan
// A second race at an address is a race as well: memory is used again. And no thread is left at the end.
extern "C" __attribute__((visibility("default"))) CONVCORE_UNSEEN const char* __tsan_default_options() {
  return "suppress_equal_addresses=0:atexit_sleep_ms=0";
}

namespace convcore::test {
namespace {

using cuda::launch;
using cuda::SharedMemory;

constexpr int kThreads = 64;

// Races reported while f runs. The detector reports a pair of places once, so each kernel is asked about once.
template <typename F>
int races(F f) {
  take_found();
  expect(true);
  f();
  expect(false);
  return take_found();
}

CONVCORE_KERNEL(kThreads) without_barrier(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x);
  values[t] = float(t);
  out[blockIdx.x * kThreads + t] = values[(t + 1) % kThreads];
}

CONVCORE_KERNEL(kThreads) with_barriers(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x);
  float sum = 0;
  for (int i = 0; i < 5; i++) {
    values[t] = float(t);
    __syncthreads();
    sum += values[(t + 1) % kThreads];
    __syncthreads();
  }
  out[blockIdx.x * kThreads + t] = sum;
}

CONVCORE_KERNEL(kThreads) between_two_barriers(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x);
  __syncthreads();
  values[t] = float(t);
  const float next = values[(t + kThreads - 1) % kThreads];  // of a thread that ran before this one
  __syncthreads();
  out[blockIdx.x * kThreads + t] = next;
}

CONVCORE_KERNEL(kThreads) between_two_warp_barriers(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x), lane = t % 32;
  __syncwarp();
  values[t] = float(t);
  const float next = values[t - lane + (lane + 31) % 32];
  __syncwarp();
  out[blockIdx.x * kThreads + t] = next;
}

CONVCORE_KERNEL(kThreads) with_warp_barriers(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x), lane = t % 32;
  values[t] = float(t);
  __syncwarp();
  const float next = values[t - lane + (lane + 1) % 32];
  __syncwarp();
  values[t] = next;
  __syncthreads();
  out[blockIdx.x * kThreads + t] = values[(t + 40) % kThreads];
}

CONVCORE_KERNEL(kThreads) warp_barrier_for_a_block(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x);
  values[t] = float(t);
  __syncwarp();
  out[blockIdx.x * kThreads + t] = values[(t + 32) % kThreads];  // of the other warp
}

CONVCORE_KERNEL(kThreads) exchange_for_a_barrier(float* out) {
  SharedMemory memory;
  float* values = memory.array<float>(kThreads);
  const int t = int(threadIdx.x), lane = t % 32;
  values[t] = float(t);
  __shfl_xor_sync(0xFFFFFFFFu, t, 1);  // orders nothing in memory
  out[blockIdx.x * kThreads + t] = values[t - lane + (lane + 1) % 32];
}

CONVCORE_KERNEL(kThreads) one_output_for_all_blocks(float* out) {
  __syncthreads();
  if (threadIdx.x == blockIdx.x) out[0] = float(blockIdx.x);
}

CONVCORE_KERNEL(kThreads) neighbour_written_by_the_next_block(float* out) {
  const int t = int(threadIdx.x);
  __syncthreads();
  const int at = int(blockIdx.x) * kThreads + t;
  out[at] = float(t);
  if (t == 0) out[at + kThreads] = 1.0f;  // the first of the next block
}

CONVCORE_KERNEL(kThreads) add_one(float* out) { out[threadIdx.x] += 1.0f; }

constexpr int kBlocks = 8;

TEST_CASE("race detector: seeded races are reported") {
  const Floats out((kBlocks + 1) * kThreads, 0.0f);
  const auto racy = [&](const std::string& name, void (*kernel)(float*), unsigned blocks) {
    CAPTURE(name);
    const size_t shared = cuda::shared_bytes<float>(kThreads);
    CHECK(races([&] { launch("seeded", kernel, dim3(blocks), kThreads, shared, out.data()); }) > 0);
  };
  racy("no barrier", without_barrier, 1);
  racy("between two barriers", between_two_barriers, 1);
  racy("between two barriers of a warp", between_two_warp_barriers, 1);
  racy("a warp's barrier for a block's", warp_barrier_for_a_block, 1);
  racy("an exchange for a barrier", exchange_for_a_barrier, 1);
  racy("blocks write one place", one_output_for_all_blocks, 2);
  racy("blocks overlap", neighbour_written_by_the_next_block, kBlocks);
}

TEST_CASE("race detector: nothing else is reported") {
  const Floats out(kBlocks * kThreads, 0.0f);
  const size_t shared = cuda::shared_bytes<float>(kThreads);
  CHECK(races([&] {
          for (int i = 0; i < 3; i++) {
            launch("barriers", with_barriers, dim3(kBlocks), kThreads, shared, out.data());
            launch("barriers of warps", with_warp_barriers, dim3(kBlocks), kThreads, shared, out.data());
            for (int64_t k = 0; k < out.count(); k++) out[k] += 1;  // the host's work between two launches
            launch("one after the other", add_one, dim3(1), kThreads, 0, out.data());
            launch("one after the other", add_one, dim3(1), kThreads, 0, out.data());
          }
        }) == 0);
}

}  // namespace
}  // namespace convcore::test

// Records on a GPU which lane holds which element in mma and ldmatrix, and compares it with fragment_maps.txt.
//
//   nvcc -std=c++17 -arch=sm_90 -I csrc -I tests/cuda_host tests/cuda_gpu/fragment_maps.cu -o fragment_maps
//   ./fragment_maps tests/cuda_host/fragment_maps.txt > recorded.txt
//
// Exit status: 0 when all is as the file says, 1 when not, 2 when it could not be run.
#include <cstdio>

#include "fragment_maps.h"

using namespace convcore::fragments;

static void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

// An array on the device, and its copy here.
template <typename T>
struct Array {
  explicit Array(size_t count) : here(count) { check(cudaMalloc(&device, count * sizeof(T)), "cudaMalloc"); }
  void fetch() { check(cudaMemcpy(here.data(), device, here.size() * sizeof(T), cudaMemcpyDeviceToHost), "probes"); }
  std::vector<T> here;
  T* device = nullptr;
};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fragment_maps fragment_maps.txt\n");
    return 2;
  }
  const Maps right = read_maps(argv[1]);
  Array<float> tf32(kHalves / 2 * kLanes * 4), bf16(kHalves * kLanes * 4);
  Array<uint32_t> rows(kLanes * 4);
  // clang-format off
  probe_mma<1><<<1, kLanes>>>(tf32.device);
  probe_mma<2><<<1, kLanes>>>(bf16.device);
  probe_ldmatrix<<<1, kLanes, kProbeShared>>>(rows.device);
  // clang-format on
  check(cudaGetLastError(), "launch");
  tf32.fetch();
  bf16.fetch();
  rows.fetch();
  Maps found = maps_of_mma("mma_tf32", tf32.here.data(), 1, right);
  found.merge(maps_of_mma("mma_bf16", bf16.here.data(), 2, right));
  found["ldmatrix4 D"] = map_of_ldmatrix(rows.here.data());
  std::fputs(text_of(found).c_str(), stdout);
  if (found == right) return 0;
  std::fprintf(stderr, "the maps differ from %s\n", argv[1]);
  return 1;
}

// What the tests of the CUDA kernels on the CPU share.
//
// The table of CUDA kernels has the functions of the CPU's table, so a test is one function that calls a kernel on a
// table and returns what it wrote: the CPU's result is the oracle. It runs with the threads of a block in order, in
// reverse, and in random orders, which must all give the same bits.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/random.h"
#include "cpu/kernels.h"
#include "cuda/api.h"
#include "cuda/device.cuh"
#include "ops/kernels.h"

namespace convcore::test {

// Device memory: a heap block of exactly this size, full of NaN until it is written.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : count_(count), data_(::operator new(size_t(count) * sizeof(T), std::align_val_t(16))) {
    std::memset(data_.get(), 0xFF, size_t(count) * sizeof(T));
  }
  Buffer(int64_t count, T value) : Buffer(count) {
    for (int64_t i = 0; i < count; i++) data()[i] = value;
  }
  T* data() const { return static_cast<T*>(data_.get()); }
  operator T*() const { return data(); }  // NOLINT: stands for the pointer
  T& operator[](int64_t i) const { return data()[i]; }
  int64_t count() const { return count_; }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t(16)); }
  };
  int64_t count_;
  std::unique_ptr<void, Free> data_;
};
using Floats = Buffer<float>;

// One value in device memory, for the time of a call.
template <typename T>
struct OnDevice : Buffer<T> {
  explicit OnDevice(const T& value) : Buffer<T>(1, value) {}
};
template <typename T>
OnDevice<T> on_device(const T& value) {
  return OnDevice<T>(value);
}

// Numbers in [-1, 1), a pure function of the seed.
inline Floats random_floats(int64_t count, uint64_t seed) {
  Floats values(count);
  for (int64_t i = 0; i < count; i++) values[i] = 2 * uniform_float(philox({seed, 0}, uint64_t(i)).value[0]) - 1;
  return values;
}

inline const cuda::Api& cuda_api() { return *convcore_cuda_api(cuda::kApiVersion); }
inline const Kernels& cuda_kernels() { return *cuda_api().kernels; }

using Outputs = std::vector<std::vector<double>>;

template <typename T>
void keep(Outputs& outputs, const Buffer<T>& values) {
  outputs.emplace_back(values.data(), values.data() + values.count());
}

// Every output within `bound` times the largest magnitude of it. The inputs are of size 1, so what cancels to less than
// a tenth is rounding.
inline void check_near(const Outputs& got, const Outputs& want, double bound) {
  REQUIRE(got.size() == want.size());
  for (size_t o = 0; o < got.size(); o++) {
    REQUIRE(got[o].size() == want[o].size());
    double largest = 0.1;
    for (double v : want[o])
      if (std::isfinite(v)) largest = std::fmax(largest, std::fabs(v));
    for (size_t i = 0; i < got[o].size(); i++) {
      const bool near = std::fabs(got[o][i] - want[o][i]) <= bound * largest ||
                        (std::isnan(got[o][i]) && std::isnan(want[o][i])) || got[o][i] == want[o][i];
      if (near) continue;
      CAPTURE(o);
      CAPTURE(i);
      CHECK(got[o][i] == want[o][i]);
      return;
    }
  }
}

// f(kernels, outputs) calls kernels and keeps what they wrote.
template <typename F>
void check_kernel([[maybe_unused]] double bound, F f) {
  auto& settings = cuda_host::settings();
  const auto run = [&](cuda_host::Order order, uint64_t seed) {
    settings.order = order, settings.seed = seed;
    Outputs outputs;
    f(cuda_kernels(), outputs);
    return outputs;
  };
  const Outputs got = run(cuda_host::Order::forward, 0);
#ifndef CONVCORE_CUDA_HOST_RACES  // one order shows the races, and the CPU's kernels are not compiled for the detector
  Outputs want;
  f(cpu::kernels(), want);
  check_near(got, want, bound);
  const auto same = [&](const Outputs& other) {
    for (size_t o = 0; o < got.size(); o++)
      if (!got[o].empty() && std::memcmp(got[o].data(), other[o].data(), got[o].size() * sizeof(double)) != 0)
        return false;
    return true;
  };
  CHECK(same(run(cuda_host::Order::reverse, 0)));
  CHECK(same(run(cuda_host::Order::random, 1)));
#endif
}

inline bool is_cuda(const Kernels& kernels) { return &kernels == &cuda_kernels(); }

constexpr double kRounding = 2e-6;  // of sums of some hundred terms, in another order

}  // namespace convcore::test

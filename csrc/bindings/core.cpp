// Threads, instruction sets, memory, windows and random numbers.
#include <omp.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "core/allocator.h"
#include "core/random.h"
#include "core/threads.h"
#include "core/window.h"
#include "cpu/kernels.h"
#include "ops/conv2d_algorithm.h"
#include "ops/peak.h"

namespace convcore {
namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = CONVCORE_VERSION;
  info["compiler"] = CONVCORE_COMPILER;
  info["build_type"] = CONVCORE_BUILD_TYPE;
  info["openmp"] = _OPENMP;
#ifdef CONVCORE_HAVE_CUDA_PLUGIN
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
  return info;
}

py::dict memory_stats() {
  const AllocatorStats s = allocator_stats();
  py::dict stats;
  stats["live_bytes"] = s.live_bytes;
  stats["cached_bytes"] = s.cached_bytes;
  stats["system_requests"] = s.system_requests;
  return stats;
}

// Uniform numbers in [low, high), element i from position i of the stream.
py::object random_uniform(uint64_t seed, uint64_t stream, Shape shape, float low, float high) {
  Tensor out = Tensor::empty("random_uniform", "shape", std::move(shape));
  const int64_t count = out.count();
  const RandomKey key{seed, stream};
  float* data = out.data();
  parallel_for((count + 3) / 4, 40, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      const Philox r = philox(key, uint64_t(block));
      for (int64_t i = 0; i < 4 && 4 * block + i < count; i++)
        data[4 * block + i] = low + (high - low) * uniform_float(r.value[i]);
    }
  });
  return to_python(out);
}

// A permutation of 0 .. n-1 (Fisher-Yates; position i of the stream decides swap i).
py::array_t<int64_t> random_permutation(uint64_t seed, uint64_t stream, int64_t n) {
  expect_range("random_permutation", "n", n, 0, INT64_MAX / 16);
  py::array_t<int64_t> out(n);
  int64_t* p = out.mutable_data();
  for (int64_t i = 0; i < n; i++) p[i] = i;
  const RandomKey key{seed, stream};
  for (int64_t i = n - 1; i > 0; i--) {
    const Philox r = philox(key, uint64_t(i));
    const uint64_t bits = uint64_t(r.value[0]) << 32 | r.value[1];
    const uint64_t j = uint64_t((unsigned __int128)bits * uint64_t(i + 1) >> 64);
    std::swap(p[i], p[j]);
  }
  return out;
}

// The four numbers at position `block`, as the tests compare them with published ones.
std::array<uint32_t, 4> philox_block(uint64_t seed, uint64_t stream, uint64_t block) {
  const Philox r = philox({seed, stream}, block);
  return {r.value[0], r.value[1], r.value[2], r.value[3]};
}

// One pass of a convolution, as Python describes it: padding is (top, bottom, left, right).
Conv2dShape conv2d_shape(const Shape& x_shape, const Shape& w_shape, std::array<int64_t, 2> stride,
                         std::array<int64_t, 4> padding, std::array<int64_t, 2> dilation, int64_t groups) {
  return infer_conv2d_shape("conv2d", x_shape, w_shape, {stride, padding, dilation, groups});
}

// The algorithm that conv2d takes for a pass, as in ops/conv2d_algorithm.h.
std::string conv2d_algorithm(const std::string& pass, const Shape& x_shape, const Shape& w_shape,
                             std::array<int64_t, 2> stride, std::array<int64_t, 4> padding,
                             std::array<int64_t, 2> dilation, int64_t groups) {
  const Conv2dShape s = conv2d_shape(x_shape, w_shape, stride, padding, dilation, groups);
  return algorithm_name(choose_algorithm("conv2d", s, parse_pass("conv2d", pass), ConvAlgorithm::automatic));
}

// Those that can compute it.
std::vector<std::string> conv2d_algorithms(const std::string& pass, const Shape& x_shape, const Shape& w_shape,
                                           std::array<int64_t, 2> stride, std::array<int64_t, 4> padding,
                                           std::array<int64_t, 2> dilation, int64_t groups) {
  const Conv2dShape s = conv2d_shape(x_shape, w_shape, stride, padding, dilation, groups);
  std::vector<std::string> names;
  for (const ConvAlgorithm a : possible_algorithms(s, parse_pass("conv2d", pass))) names.push_back(algorithm_name(a));
  return names;
}

// The arguments of conv2d_algorithm, and the name of the algorithm to be taken.
using ConvChoice = std::tuple<std::string, Shape, Shape, std::array<int64_t, 2>, std::array<int64_t, 4>,
                              std::array<int64_t, 2>, int64_t, std::string>;

void set_conv2d_choices(const std::vector<ConvChoice>& choices) {
  std::vector<MeasuredChoice> measured;
  for (const auto& [pass, x_shape, w_shape, stride, padding, dilation, groups, algorithm] : choices)
    measured.push_back({conv2d_shape(x_shape, w_shape, stride, padding, dilation, groups), parse_pass("conv2d", pass),
                        parse_algorithm("conv2d", algorithm)});
  set_measured_choices(measured);
}

// FLOP/s or bytes/s, see ops/peak.h.
double peak(const std::string& name, double seconds) {
  std::string names;
  for (const Peak p : kPeaks) {
    if (name == peak_name(p)) {
      py::gil_scoped_release release;
      return measure_peak(p, seconds);
    }
    names += (names.empty() ? "" : ", ") + std::string(peak_name(p));
  }
  fail("peak", "name is not known", "one of " + names, "'" + name + "'");
}

}  // namespace

void bind_core(py::module_& m) {
  m.def("build_info", build_info);
  m.def("isa", [] { return cpu::kernels().isa; });
  m.def("reachable_isas", cpu::reachable_isas);
  m.def("num_threads", num_threads);
  m.def("set_conv2d_choices", set_conv2d_choices);
  m.def("set_num_threads", set_num_threads);
  m.def("conv2d_algorithm", conv2d_algorithm);
  m.def("conv2d_algorithms", conv2d_algorithms);
  m.def("memory_stats", memory_stats);
  m.def("peak", peak);
  m.def("release_cache", release_cache);
  m.def("philox", philox_block);
  m.def("random_uniform", random_uniform);
  m.def("random_permutation", random_permutation);
  m.def("same_padding", same_padding);
  m.def("window_output_size",
        [](const std::string& op, const std::string& axis, int64_t in, int64_t kernel, int64_t stride,
           int64_t pad_before, int64_t pad_after, int64_t dilation, bool ceil_mode) {
          return window_output_size(op.c_str(), axis.c_str(), in, {kernel, stride, pad_before, pad_after, dilation},
                                    ceil_mode);
        });
}

}  // namespace convcore

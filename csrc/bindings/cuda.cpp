// The CUDA plug-in: whether it can be used, why not, and what it runs on.
#include <sstream>

#include "bindings/module.h"
#include "core/cuda_plugin.h"
#include "core/device.h"
#include "pybind11/stl.h"

namespace py = pybind11;

namespace convcore {
namespace {

// What the plug-in has code for, as "90-real" or "80-virtual"; nothing where there is no plug-in.
std::vector<std::string> cuda_architectures() {
  std::vector<std::string> all;
  if (const cuda::Api* api = cuda::opened()) {
    std::istringstream words(api->architectures);
    for (std::string word; words >> word;) all.push_back(word);
  }
  return all;
}

py::dict cuda_device_info() {
  cuda::DeviceInfo device{};
  cuda::check(cuda::api().device_info(&device));
  py::dict info;
  info["name"] = device.name;
  info["compute_capability"] = py::make_tuple(device.compute_major, device.compute_minor);
  info["multiprocessors"] = device.multiprocessors;
  info["memory_bytes"] = device.memory_bytes;
  info["l2_bytes"] = device.l2_bytes;
  info["shared_bytes_per_block"] = device.shared_bytes_per_block;
  return info;
}

py::dict cuda_memory_stats() {
  cuda::MemoryStats stats{};
  cuda::check(cuda::api().memory_stats(&stats));
  py::dict out;
  out["live_bytes"] = stats.live_bytes;
  out["cached_bytes"] = stats.cached_bytes;
  out["device_requests"] = stats.device_requests;
  return out;
}

void cuda_empty_cache() {
  const py::gil_scoped_release release;
  const DeviceScope scope(Device::cuda);
  cuda::api().release_cache();
}

void cuda_synchronize() {
  const py::gil_scoped_release release;
  const DeviceScope scope(Device::cuda);
  cuda::check(cuda::api().synchronize());
}

}  // namespace

void bind_cuda(py::module_& m) {
  m.def("cuda_architectures", cuda_architectures);
  m.def("cuda_device_info", cuda_device_info);
  m.def("cuda_empty_cache", cuda_empty_cache);
  m.def("cuda_memory_stats", cuda_memory_stats);
  m.def("cuda_synchronize", cuda_synchronize);
  m.def("cuda_reason", cuda::unavailable_reason);
}

}  // namespace convcore

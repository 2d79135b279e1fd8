// The CUDA plug-in: whether it can be used, why not, and what it runs on.
#include <sstream>

#include "bindings/module.h"
#include "core/cuda_plugin.h"
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

}  // namespace

void bind_cuda(py::module_& m) {
  m.def("cuda_architectures", cuda_architectures);
  m.def("cuda_device_info", cuda_device_info);
  m.def("cuda_reason", cuda::unavailable_reason);
}

}  // namespace convcore

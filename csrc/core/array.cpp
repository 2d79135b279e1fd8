#include "core/array.h"

#include <cstring>

#include "core/cuda_plugin.h"

namespace convcore {

std::shared_ptr<void> allocate_on(Device device, size_t bytes) {
  if (device == Device::cpu) return allocate(bytes);
  const cuda::Api& api = cuda::api();
  void* block = nullptr;
  cuda::check(api.allocate(int64_t(bytes), &block));
  return std::shared_ptr<void>(block, [&api, bytes](void* p) { api.free(p, int64_t(bytes)); });
}

void copy_bytes(Device to_device, void* to, Device from_device, const void* from, int64_t bytes) {
  if (to_device == Device::cpu && from_device == Device::cpu) {
    std::memcpy(to, from, size_t(bytes));
    return;
  }
  const DeviceScope scope(Device::cuda);
  const cuda::Api& api = cuda::api();
  const auto copy = to_device == Device::cpu ? api.to_host : from_device == Device::cpu ? api.to_device : api.copy;
  cuda::check(copy(to, from, bytes));
  cuda::check(api.take_error());
}

void clear_bytes(void* to, int64_t bytes) {
  if (current_device() == Device::cpu)
    std::memset(to, 0, size_t(bytes));
  else
    cuda::check(cuda::api().fill_bytes(to, 0, bytes));
}

void copy_floats(float* to, const float* from, int64_t count) {
  copy_bytes(current_device(), to, current_device(), from, count * int64_t(sizeof(float)));
}

Device OnDeviceOf::common(const char* op, std::initializer_list<Argument> arguments) {
  const Argument* first = nullptr;
  for (const Argument& argument : arguments) {
    if (!argument.given) continue;
    if (!first) first = &argument;
    if (argument.device != first->device)
      fail(op, "the arrays are on different devices",
           std::string("all of them on ") + device_name(first->device) + ", as " + first->name,
           std::string(argument.name) + " on " + device_name(argument.device));
  }
  return first ? first->device : current_device();
}

}  // namespace convcore

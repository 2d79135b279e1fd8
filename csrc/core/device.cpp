#include "core/device.h"

#include <mutex>

#include "core/cuda_plugin.h"

namespace convcore {
namespace {

thread_local Device current = Device::cpu;

std::recursive_mutex& on_stream() {
  static std::recursive_mutex mutex;
  return mutex;
}

}  // namespace

const char* device_name(Device device) { return device == Device::cuda ? "cuda" : "cpu"; }

Device current_device() { return current; }

DeviceScope::DeviceScope(Device device) : device_(device), before_(current) {
  if (device == Device::cuda) {
    const cuda::Api& api = cuda::api();  // before the lock: it may throw
    on_stream().lock();
    if (before_ == Device::cpu) {
      try {
        cuda::check(api.take_error());
      } catch (...) {
        on_stream().unlock();
        throw;
      }
    }
  }
  current = device;
}

DeviceScope::~DeviceScope() {
  current = before_;
  if (device_ == Device::cuda) on_stream().unlock();
}

}  // namespace convcore

// Where arrays live and kernels run: the CPU, or the GPU behind the CUDA plug-in.
//
// The device of an op is that of its arrays (OnDeviceOf in core/array.h). It is the current device of the calling
// thread while the op runs: there `Array::empty` allocates, and `current_kernels()` is its table.
#pragma once
#include <cstdint>

namespace convcore {

enum class Device : uint8_t { cpu, cuda };

const char* device_name(Device);

Device current_device();  // of this thread: the CPU, unless a DeviceScope says otherwise

// Makes a device the current one of this thread. For CUDA one thread at a time is in: all work goes to one stream, and
// what an op puts on it must not mix with that of another. Throws std::runtime_error with the reason when the plug-in
// cannot be used, or what went wrong on the device since the last call.
class DeviceScope {
 public:
  explicit DeviceScope(Device device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  Device device_, before_;
};

}  // namespace convcore

// DeviceArray: an array in the memory of the GPU, as Python sees it.
#pragma once
#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>

#include "core/array.h"

namespace py = pybind11;

namespace convcore {

enum class DType : uint8_t { float32, int32, int64, uint8 };
int64_t size_of(DType dtype);
const char* name_of(DType dtype);

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::float32;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::int32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::int64;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::uint8;
}

// An Array of which the type is known when the program runs. The memory is the GPU's.
struct DeviceArray {
  DType dtype = DType::float32;
  void* data = nullptr;
  Shape shape;
  std::shared_ptr<void> owner;
  Layout layout = Layout::row_major;

  int64_t count() const;
  int64_t bytes() const { return count() * size_of(dtype); }

  template <typename T>
  Array<T> as() const {  // of this type
    return Array<T>(static_cast<T*>(data), shape, owner, layout, Device::cuda);
  }
  template <typename T>
  static DeviceArray of(const Array<T>& a) {
    return {dtype_of<T>(), a.data(), a.shape(), a.owner(), a.layout()};
  }
};

// The object as a DeviceArray: itself, or its memory when it speaks DLPack and lies on the GPU. Else nothing.
std::optional<DeviceArray> as_device_array(py::handle object);

}  // namespace convcore

// An n-dimensional array: a pointer, a shape and a share in the memory's ownership. No arithmetic.
//
// The memory is that of the array's device; only the CPU's can be read and written here.
//
// The shape of images is always (N, C, H, W). Their memory is in row-major order, or channels-last: (N, H, W, C), as in
// torch's memory format of that name; the ops that take both say so.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>

#include "core/allocator.h"
#include "core/check.h"
#include "core/device.h"

namespace convcore {

enum class Layout { row_major, channels_last };

template <typename T>
class Array {
 public:
  Array() = default;  // no array: "not given" or "not asked for"
  Array(T* data, Shape shape, std::shared_ptr<void> owner, Layout layout = Layout::row_major,
        Device device = Device::cpu)
      : data_(data), shape_(std::move(shape)), owner_(std::move(owner)), layout_(layout), device_(device) {}

  // A new array on the current device, uninitialised (NaN under CONVCORE_POISON=1); `op` and `name` are for the error
  // of impossible sizes.
  static Array empty(const char* op, const char* name, Shape shape, Layout layout = Layout::row_major) {
    const int64_t count = checked_count(op, name, shape);
    std::shared_ptr<void> block = allocate_on(current_device(), size_t(count) * sizeof(T));
    T* data = static_cast<T*>(block.get());
    return Array(data, std::move(shape), std::move(block), layout, current_device());
  }

  bool given() const { return data_ != nullptr; }
  T* data() const { return data_; }  // null when not given
  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }
  Device device() const { return device_; }
  // The same elements in another shape of as many; they must lie in row-major order.
  Array reshaped(Shape shape) const { return Array(data_, std::move(shape), owner_, Layout::row_major, device_); }
  int64_t size(size_t axis) const { return shape_[axis]; }
  int64_t count() const {
    int64_t product = 1;
    for (int64_t size : shape_) product *= size;
    return product;
  }
  const std::shared_ptr<void>& owner() const { return owner_; }

 private:
  T* data_ = nullptr;
  Shape shape_;
  std::shared_ptr<void> owner_;
  Layout layout_ = Layout::row_major;
  Device device_ = Device::cpu;
};

using Tensor = Array<float>;
using LabelArray = Array<int64_t>;  // class labels
using IndexArray = Array<int32_t>;  // positions inside one image plane

// Copies between devices, or on one; the shapes are the caller's to compare.
void copy_bytes(Device to_device, void* to, Device from_device, const void* from, int64_t bytes);

// Within the current device: zero bytes, and a copy.
void clear_bytes(void* to, int64_t bytes);
void copy_floats(float* to, const float* from, int64_t count);

// The same array on another device: itself where it is there already.
template <typename T>
Array<T> to_device(const Array<T>& array, Device device) {
  if (!array.given() || array.device() == device) return array;
  const DeviceScope scope(device);
  Array<T> copy = Array<T>::empty("to_device", "array", array.shape(), array.layout());
  copy_bytes(device, copy.data(), array.device(), array.data(), array.count() * int64_t(sizeof(T)));
  return copy;
}

// A small value where kernels of the current device read it, for the time of a call.
template <typename T>
class Handed {
 public:
  explicit Handed(const T& value) : value_(value) {
    if (current_device() == Device::cpu) return;
    block_ = allocate_on(current_device(), sizeof(T));
    copy_bytes(current_device(), block_.get(), Device::cpu, &value_, sizeof(T));
  }
  const T* get() const { return block_ ? static_cast<const T*>(block_.get()) : &value_; }

 private:
  T value_;
  std::shared_ptr<void> block_;
};

// The device of the arrays of an op, as the current one while the op runs. Throws std::invalid_argument when they are
// on different ones.
class OnDeviceOf {
 public:
  struct Argument {
    template <typename T>
    Argument(const char* name, const Array<T>& array) : name(name), given(array.given()), device(array.device()) {}
    const char* name;
    bool given;
    Device device;
  };
  OnDeviceOf(const char* op, std::initializer_list<Argument> arguments) : scope_(common(op, arguments)) {}
  OnDeviceOf(const std::string& op, std::initializer_list<Argument> arguments) : OnDeviceOf(op.c_str(), arguments) {}

 private:
  static Device common(const char* op, std::initializer_list<Argument> arguments);
  DeviceScope scope_;
};

}  // namespace convcore

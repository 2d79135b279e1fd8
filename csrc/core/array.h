// An n-dimensional array: a pointer, a shape and a share in the memory's ownership. No arithmetic.
//
// The shape of images is always (N, C, H, W). Their memory is in row-major order, or channels-last: (N, H, W, C), as in
// torch's memory format of that name; the ops that take both say so.
#pragma once
#include <cstdint>
#include <memory>

#include "core/allocator.h"
#include "core/check.h"

namespace convcore {

enum class Layout { row_major, channels_last };

template <typename T>
class Array {
 public:
  Array() = default;  // no array: "not given" or "not asked for"
  Array(T* data, Shape shape, std::shared_ptr<void> owner, Layout layout = Layout::row_major)
      : data_(data), shape_(std::move(shape)), owner_(std::move(owner)), layout_(layout) {}

  // A new array, uninitialised (NaN under CONVCORE_POISON=1); `op` and `name` are for the error of impossible sizes.
  static Array empty(const char* op, const char* name, Shape shape, Layout layout = Layout::row_major) {
    const int64_t count = checked_count(op, name, shape);
    std::shared_ptr<void> block = allocate(size_t(count) * sizeof(T));
    T* data = static_cast<T*>(block.get());
    return Array(data, std::move(shape), std::move(block), layout);
  }

  bool given() const { return data_ != nullptr; }
  T* data() const { return data_; }  // null when not given
  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }
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
};

using Tensor = Array<float>;
using LabelArray = Array<int64_t>;  // class labels
using IndexArray = Array<int32_t>;  // positions inside one image plane

}  // namespace convcore

// NumPy (and anything that speaks DLPack, on the CPU or the GPU) to views and back. Checks dtypes; shapes are checked
// in csrc/ops.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/array.h"

namespace py = pybind11;

namespace convcore {

// An argument: the view that the op reads, and the Python object that keeps its memory alive.
template <typename T>
struct Arg {
  py::object holder;
  Array<T> array;
};

// A float32 array. C-contiguous arrays are viewed, others are copied into order; writing is never needed.
// Throws TypeError "<op>: <name> ...: expected ..., got ..." for anything else.
Arg<float> tensor_arg(const char* op, const char* name, py::handle object);
Arg<float> optional_tensor_arg(const char* op, const char* name, py::handle object);  // None: not given

// The same for images in either order of memory: a 4-D array that is channels-last is viewed as it is.
Arg<float> image_arg(const char* op, const char* name, py::handle object);
Arg<float> optional_image_arg(const char* op, const char* name, py::handle object);

Arg<int64_t> label_arg(const char* op, const char* name, py::handle object);  // any integer dtype
Arg<int32_t> index_arg(const char* op, const char* name, py::handle object);  // any integer dtype

// Whether it is an array of float32 with so many axes, on either device.
bool is_float32(py::handle object, size_t rank);

// A float32 array that the op writes in place: must be C-contiguous and writeable.
Arg<float> inout_arg(const char* op, const char* name, py::handle object);
Arg<float> optional_inout_arg(const char* op, const char* name, py::handle object);  // None: not given

// The images of a data set: uint8 or float32, one of the two is given. Viewed as they lie, so they must be
// C-contiguous: a copy for each batch would be one of all images.
struct PixelsArg {
  py::object holder;
  Array<uint8_t> bytes;
  Tensor floats;
};
PixelsArg pixels_arg(const char* op, const char* name, py::handle object);

// Whether the memory of (N, C, H, W) lies in the order (N, H, W, C) without gaps, and not in row-major order.
bool is_channels_last(const py::array& array);

// An ndarray, or on the GPU a DeviceArray, that owns (a share of) the memory; None when the array was not given.
py::object to_python(const Tensor& array);
py::object to_python(const IndexArray& array);
py::object to_python(const LabelArray& array);
py::object to_python(const Array<uint8_t>& array);

}  // namespace convcore

#include "bindings/arrays.h"

#include <limits>

#include "bindings/device_array.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

[[noreturn]] void fail_type(const char* op, const char* name, const std::string& what, const std::string& expected,
                            const std::string& got) {
  throw py::type_error(std::string(op) + ": " + name + " " + what + ": expected " + expected + ", got " + got);
}

std::string type_name(py::handle object) { return py::str(py::type::of(object).attr("__name__")); }

// The object itself when it is an ndarray, a view of it when it speaks DLPack (torch, JAX, CuPy on the host).
py::array as_ndarray(const char* op, const char* name, const char* dtype, py::handle object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  if (py::hasattr(object, "__dlpack__")) {
    try {
      return py::module_::import("numpy").attr("from_dlpack")(object);
    } catch (py::error_already_set& error) {
      fail_type(op, name, "cannot be read through DLPack", std::string("an array of ") + dtype + " in host memory",
                error.what());
    }
  }
  const std::string type = type_name(object);
  fail_type(op, name, "is not an array", std::string("a numpy.ndarray of ") + dtype,
            type == "Parameter" ? type + " (pass its .data)" : type);
}

Shape shape_of(const py::array& array) {
  Shape shape(size_t(array.ndim()));
  for (size_t i = 0; i < shape.size(); i++) shape[i] = array.shape(py::ssize_t(i));
  return shape;
}

template <typename T>
Arg<T> view(py::array array) {
  if (!array) throw std::bad_alloc();  // `ensure` drops its error: it could not copy the array into order
  // Kernels never write through an input, so dropping const here is safe for read-only arrays.
  T* data = static_cast<T*>(const_cast<void*>(array.data()));
  Shape shape = shape_of(array);
  static T nothing{};  // an empty array may have a null pointer, which would read as "not given"
  return {array, Array<T>(data ? data : &nothing, std::move(shape), nullptr)};
}

// An array on the GPU of type T, viewed; nothing when it is no such array.
template <typename T>
std::optional<Arg<T>> on_gpu(const char* op, const char* name, py::handle object) {
  const std::optional<DeviceArray> array = as_device_array(object);
  if (!array) return std::nullopt;
  if (array->dtype != dtype_of<T>())
    fail_type(op, name, "has the wrong dtype", name_of(dtype_of<T>()),
              std::string(name_of(array->dtype)) + " on the GPU");
  return Arg<T>{py::reinterpret_borrow<py::object>(object), array->as<T>()};
}

template <typename T>
void expect_row_major(const char* op, const char* name, const Array<T>& array) {
  if (array.layout() != Layout::row_major)
    fail(op, std::string(name) + " cannot be used in place", "row-major memory", "channels-last memory");
}

void expect_float32(const char* op, const char* name, const py::array& array) {
  if (array.dtype().equal(py::dtype::of<float>())) return;
  const std::string dtype = py::str(array.dtype());
  fail_type(op, name, "has the wrong dtype", "float32", dtype + " (convert it with .astype(numpy.float32))");
}

template <typename T>
Arg<T> integer_arg(const char* op, const char* name, py::handle object) {
  py::array array = as_ndarray(op, name, "integers", object);
  const char kind = array.dtype().kind();
  if (kind != 'i' && kind != 'u')
    fail_type(op, name, "has the wrong dtype", "integers", std::string(py::str(array.dtype())));
  if (!array.dtype().equal(py::dtype::of<T>())) {
    if (array.size() > 0 && array.dtype().itemsize() >= py::ssize_t(sizeof(T))) {
      const py::object low = array.attr("min")(), high = array.attr("max")();
      if (low < py::int_(std::numeric_limits<T>::min()) || high > py::int_(std::numeric_limits<T>::max()))
        fail(op, std::string(name) + " has a value that is too large", std::to_string(8 * sizeof(T)) + "-bit integers",
             std::string(py::str(low)) + " ... " + std::string(py::str(high)));
    }
    array = array.attr("astype")(py::dtype::of<T>());
  }
  return view<T>(py::array_t<T, py::array::c_style>::ensure(array));
}

template <typename T>
py::object wrap(const Array<T>& array) {
  if (!array.given()) return py::none();
  if (array.device() == Device::cuda) return py::cast(DeviceArray::of(array));
  auto* owner = new std::shared_ptr<void>(array.owner());
  py::capsule base(owner, [](void* p) { delete static_cast<std::shared_ptr<void>*>(p); });
  if (array.layout() == Layout::row_major) return py::array_t<T>(array.shape(), array.data(), base);
  const Shape& s = array.shape();
  const int64_t item = sizeof(T);
  const std::vector<int64_t> strides = {s[1] * s[2] * s[3] * item, item, s[1] * s[3] * item, s[1] * item};
  return py::array_t<T>(s, strides, array.data(), base);
}

}  // namespace

bool is_channels_last(const py::array& array) {
  if (array.ndim() != 4 || array.size() == 0 || (array.flags() & py::array::c_style)) return false;
  py::ssize_t stride = array.itemsize();
  for (int axis : {1, 3, 2, 0}) {
    if (array.shape(axis) != 1 && array.strides(axis) != stride) return false;
    stride *= array.shape(axis);
  }
  return true;
}

Arg<float> image_arg(const char* op, const char* name, py::handle object) {
  if (auto arg = on_gpu<float>(op, name, object)) return *arg;
  py::array array = as_ndarray(op, name, "float32", object);
  expect_float32(op, name, array);
  if (is_channels_last(array)) {
    const Arg<float> arg = view<float>(array);
    return {arg.holder, Tensor(arg.array.data(), arg.array.shape(), nullptr, Layout::channels_last)};
  }
  if (!(array.flags() & py::array::c_style)) array = py::array_t<float, py::array::c_style>::ensure(array);
  return view<float>(array);
}

Arg<float> tensor_arg(const char* op, const char* name, py::handle object) {
  Arg<float> arg = image_arg(op, name, object);
  if (arg.array.layout() == Layout::row_major) return arg;
  const py::gil_scoped_release release;
  const DeviceScope scope(arg.array.device());
  return {arg.holder, reorder(op, arg.array, Layout::row_major)};
}

Arg<float> optional_tensor_arg(const char* op, const char* name, py::handle object) {
  if (object.is_none()) return {};
  return tensor_arg(op, name, object);
}

Arg<float> optional_image_arg(const char* op, const char* name, py::handle object) {
  if (object.is_none()) return {};
  return image_arg(op, name, object);
}

bool is_float32(py::handle object, size_t rank) {
  if (py::isinstance<DeviceArray>(object)) {
    const auto& array = object.cast<const DeviceArray&>();
    return array.dtype == DType::float32 && array.shape.size() == rank;
  }
  return py::isinstance<py::array_t<float>>(object) && size_t(py::cast<py::array>(object).ndim()) == rank;
}

Arg<int64_t> label_arg(const char* op, const char* name, py::handle object) {
  if (auto arg = on_gpu<int64_t>(op, name, object)) {
    expect_row_major(op, name, arg->array);
    return *arg;
  }
  return integer_arg<int64_t>(op, name, object);
}

Arg<int32_t> index_arg(const char* op, const char* name, py::handle object) {
  if (auto arg = on_gpu<int32_t>(op, name, object)) return *arg;
  const py::array array = as_ndarray(op, name, "integers", object);
  if (!array.dtype().equal(py::dtype::of<int32_t>()) || !is_channels_last(array))
    return integer_arg<int32_t>(op, name, array);
  const Arg<int32_t> arg = view<int32_t>(array);
  return {arg.holder, IndexArray(arg.array.data(), arg.array.shape(), nullptr, Layout::channels_last)};
}

PixelsArg pixels_arg(const char* op, const char* name, py::handle object) {
  if (const auto array = as_device_array(object)) {
    PixelsArg arg;
    arg.holder = py::reinterpret_borrow<py::object>(object);
    if (array->dtype == DType::uint8)
      expect_row_major(op, name, arg.bytes = array->as<uint8_t>());
    else if (array->dtype == DType::float32)
      expect_row_major(op, name, arg.floats = array->as<float>());
    else
      fail_type(op, name, "has the wrong dtype", "uint8 or float32",
                std::string(name_of(array->dtype)) + " on the GPU");
    return arg;
  }
  const py::array array = as_ndarray(op, name, "uint8 or float32", object);
  const bool bytes = array.dtype().equal(py::dtype::of<uint8_t>());
  if (!bytes && !array.dtype().equal(py::dtype::of<float>()))
    fail_type(op, name, "has the wrong dtype", "uint8 or float32", py::str(array.dtype()));
  if (!(array.flags() & py::array::c_style))
    fail(op, std::string(name) + " cannot be read in place", "a C-contiguous array",
         "strided memory (numpy.ascontiguousarray copies it into order)");
  PixelsArg arg;
  arg.holder = array;
  if (bytes)
    arg.bytes = view<uint8_t>(array).array;
  else
    arg.floats = view<float>(array).array;
  return arg;
}

Arg<float> inout_arg(const char* op, const char* name, py::handle object) {
  if (auto arg = on_gpu<float>(op, name, object)) {
    expect_row_major(op, name, arg->array);
    return *arg;
  }
  if (!py::isinstance<py::array>(object))
    fail_type(op, name, "is not an array", "a numpy.ndarray of float32", type_name(object));
  py::array array = py::reinterpret_borrow<py::array>(object);
  expect_float32(op, name, array);
  if (!(array.flags() & py::array::c_style))
    fail(op, std::string(name) + " cannot be updated in place", "a C-contiguous array", "strided memory");
  if (!array.writeable())
    fail(op, std::string(name) + " cannot be updated in place", "a writeable array", "a read-only one");
  return view<float>(array);
}

Arg<float> optional_inout_arg(const char* op, const char* name, py::handle object) {
  return object.is_none() ? Arg<float>{} : inout_arg(op, name, object);
}

py::object to_python(const Tensor& array) { return wrap(array); }
py::object to_python(const IndexArray& array) { return wrap(array); }
py::object to_python(const LabelArray& array) { return wrap(array); }
py::object to_python(const Array<uint8_t>& array) { return wrap(array); }

}  // namespace convcore

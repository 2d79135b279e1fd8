#include "bindings/device_array.h"

#include "bindings/arrays.h"
#include "bindings/dlpack.h"
#include "bindings/module.h"
#include "core/cuda_plugin.h"
#include "ops/reorder.h"

namespace convcore {

int64_t size_of(DType dtype) { return dtype == DType::int64 ? 8 : dtype == DType::uint8 ? 1 : 4; }

const char* name_of(DType dtype) {
  constexpr const char* kNames[] = {"float32", "int32", "int64", "uint8"};
  return kNames[int(dtype)];
}

int64_t DeviceArray::count() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

namespace {

py::dtype numpy_dtype(DType dtype) { return py::dtype(name_of(dtype)); }

std::optional<DType> parse_dtype(const py::dtype& dtype) {
  for (const DType d : {DType::float32, DType::int32, DType::int64, DType::uint8})
    if (dtype.equal(numpy_dtype(d))) return d;
  return std::nullopt;
}

py::tuple to_tuple(const Shape& shape) {
  py::tuple sizes(shape.size());
  for (size_t i = 0; i < shape.size(); i++) sizes[i] = shape[i];
  return sizes;
}

// In elements. The order of axes from the innermost: (N, C, H, W) is C, W, H, N when it is channels-last.
Shape strides_of(const DeviceArray& a) {
  const size_t rank = a.shape.size();
  Shape strides(rank);
  int64_t stride = 1;
  for (size_t i = 0; i < rank; i++) {
    constexpr size_t kChannelsLast[] = {1, 3, 2, 0};
    const size_t axis = a.layout == Layout::channels_last ? kChannelsLast[i] : rank - 1 - i;
    strides[axis] = stride;
    stride *= a.shape[axis];
  }
  return strides;
}

// Work on the stream, without the interpreter's lock: who has the device may be waiting for that.
template <typename F>
void on_device(F work) {
  const py::gil_scoped_release release;
  const DeviceScope scope(Device::cuda);
  work();
}

DeviceArray allocated(DType dtype, Shape shape, Layout layout = Layout::row_major) {
  DeviceArray array{dtype, nullptr, std::move(shape), nullptr, layout};
  checked_count("DeviceArray", "shape", array.shape);
  on_device([&] { array.owner = allocate_on(Device::cuda, size_t(array.bytes())); });
  array.data = array.owner.get();
  return array;
}

DeviceArray zeros(const Shape& shape) {
  const DeviceArray array = allocated(DType::float32, shape);
  on_device([&] { cuda::check(cuda::api().fill_bytes(array.data, 0, array.bytes())); });
  return array;
}

DeviceArray copy(const DeviceArray& a) {
  const DeviceArray to = allocated(a.dtype, a.shape, a.layout);
  on_device([&] { copy_bytes(Device::cuda, to.data, Device::cuda, a.data, a.bytes()); });
  return to;
}

DeviceArray row_major(const DeviceArray& a) {
  if (a.layout == Layout::row_major) return a;
  if (a.dtype != DType::float32 && a.dtype != DType::int32)
    fail("DeviceArray", "the memory is channels-last", "float32 or int32 to be reordered", name_of(a.dtype));
  DeviceArray out = a;  // the kernel moves groups of four bytes, whatever they are
  on_device([&] {
    const Array<float> words(static_cast<float*>(a.data), a.shape, a.owner, a.layout, Device::cuda);
    const Array<float> plain = reorder("DeviceArray", words, Layout::row_major);
    out.data = plain.data(), out.owner = plain.owner(), out.layout = Layout::row_major;
  });
  return out;
}

// ---- between numpy and the device -----------------------------------------------------------------------------------

py::object to_host(const DeviceArray& a) {
  const auto wrap = [&](auto type) -> py::object {
    using T = decltype(type);
    Array<T> host;
    {
      const py::gil_scoped_release release;
      host = to_device(a.as<T>(), Device::cpu);
    }
    return to_python(host);
  };
  switch (a.dtype) {
    case DType::float32:
      return wrap(float());
    case DType::int32:
      return wrap(int32_t());
    case DType::int64:
      return wrap(int64_t());
    default:
      return wrap(uint8_t());
  }
}

py::array as_numpy(py::handle object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  if (py::hasattr(object, "__dlpack__")) return py::module_::import("numpy").attr("from_dlpack")(object);
  throw py::type_error("to_device: array is not an array: expected a numpy.ndarray or a DeviceArray, got " +
                       std::string(py::str(py::type::of(object).attr("__name__"))));
}

DeviceArray from_host(py::handle object) {
  py::array array = as_numpy(object);
  const std::optional<DType> dtype = parse_dtype(array.dtype());
  if (!dtype)
    throw py::type_error("to_device: array has the wrong dtype: expected float32, int32, int64 or uint8, got " +
                         std::string(py::str(array.dtype())));
  const bool last = is_channels_last(array);
  if (!last && !(array.flags() & py::array::c_style))
    array = py::module_::import("numpy").attr("ascontiguousarray")(array);
  const DeviceArray to = allocated(*dtype, Shape(array.shape(), array.shape() + array.ndim()),
                                   last ? Layout::channels_last : Layout::row_major);
  const void* from = array.data();
  on_device([&] { copy_bytes(Device::cuda, to.data, Device::cpu, from, to.bytes()); });
  return to;
}

Device parse_device(const std::string& device) {
  if (device == "cpu") return Device::cpu;
  if (device == "cuda") return Device::cuda;
  fail("to_device", "device is not known", "'cpu' or 'cuda'", "'" + device + "'");
}

// The array on a device: a numpy array on the CPU. What is there already is given back as it is.
py::object moved(py::object array, const std::string& device) {
  const std::optional<DeviceArray> there = as_device_array(array);
  if (parse_device(device) == Device::cpu) return there ? to_host(*there) : py::object(as_numpy(array));
  if (there) return py::isinstance<DeviceArray>(array) ? array : py::cast(*there);
  return py::cast(from_host(array));
}

// ---- indexing and shapes --------------------------------------------------------------------------------------------

// Images first to last of the first axis: the same memory.
DeviceArray slice(const DeviceArray& a, const py::slice& range) {
  if (a.shape.empty()) throw py::index_error("DeviceArray: an array without axes cannot be sliced");
  py::ssize_t start, stop, step, length;
  if (!range.compute(py::ssize_t(a.shape[0]), &start, &stop, &step, &length)) throw py::error_already_set();
  if (step != 1) fail("DeviceArray", "a slice has a step", "step 1", std::to_string(step));
  DeviceArray view = a;
  view.shape[0] = length;
  const int64_t row = a.shape[0] > 0 ? a.bytes() / a.shape[0] : 0;
  view.data = static_cast<char*>(a.data) + start * row;
  return view;
}

DeviceArray item_at(const DeviceArray& a, const py::object& index) {
  const bool is_nothing = py::isinstance<py::tuple>(index) && py::len(index) == 0;
  if (index.is(py::ellipsis()) || is_nothing) return a;
  if (py::isinstance<py::slice>(index)) return slice(a, index.cast<py::slice>());
  throw py::type_error(
      "DeviceArray: this index cannot be used on the GPU: expected a slice of the first axis, or ..., got " +
      std::string(py::repr(index)) + " (.numpy() gives an array that takes any)");
}

void assign(const DeviceArray& a, const py::object& index, const py::object& value) {
  const DeviceArray to = item_at(a, index);
  if (const std::optional<DeviceArray> from = as_device_array(value)) {
    expect_shape("DeviceArray", "the assigned value", from->shape, to.shape, "the shape of what it replaces");
    if (from->dtype != to.dtype)
      throw py::type_error(std::string("DeviceArray: the assigned value has the wrong dtype: expected ") +
                           name_of(to.dtype) + ", got " + name_of(from->dtype));
    const DeviceArray source = from->layout == to.layout ? *from : row_major(*from);
    if (source.layout != to.layout) fail("DeviceArray", "the memory orders differ", "equal ones", "channels-last here");
    on_device([&] { copy_bytes(Device::cuda, to.data, Device::cuda, source.data, to.bytes()); });
    return;
  }
  // By numpy, which broadcasts and converts: the same values in the same order of memory, then one copy.
  py::array host = py::array(to_host(to));
  host[py::ellipsis()] = value;
  const void* from = host.data();
  on_device([&] { copy_bytes(Device::cuda, to.data, Device::cpu, from, to.bytes()); });
}

DeviceArray reshaped(const DeviceArray& a, const py::args& sizes) {
  py::object given = sizes;
  if (sizes.size() == 1 && !py::isinstance<py::int_>(sizes[0])) given = sizes[0];  // one tuple
  Shape shape;
  int64_t known = 1;
  std::optional<size_t> open;
  for (const py::handle size : given) {
    const int64_t n = size.cast<int64_t>();
    if (n == -1 && !open)
      open = shape.size();
    else if (n < 0)
      fail("reshape", "shape has a size that is out of range", "at least 0, and -1 once", std::to_string(n));
    else
      known *= n;
    shape.push_back(n);
  }
  if (open) shape[*open] = known > 0 ? a.count() / known : 0;
  DeviceArray view = row_major(a);
  view.shape = shape;
  if (view.count() != a.count())
    fail("reshape", "shape has the wrong number of elements",
         std::to_string(a.count()) + " (of " + to_string(a.shape) + ")", std::string(py::str(given)));
  return view;
}

py::object item(const DeviceArray& a) {
  if (a.count() != 1)
    fail("item", "the array is no single value", "one element", std::to_string(a.count()) + " of them");
  return to_host(a).attr("item")();
}

std::string repr(const DeviceArray& a) {
  return "DeviceArray(shape=" + std::string(py::str(to_tuple(a.shape))) + ", dtype=" + name_of(a.dtype) +
         ", device='cuda')";
}

// ---- exchange with other libraries ----------------------------------------------------------------------------------

void wait_for_stream() {
  on_device([] { cuda::check(cuda::api().synchronize()); });
}

struct Export {
  DeviceArray array;
  Shape strides;
  dlpack::Managed plain{};
  dlpack::ManagedVersioned versioned{};

  explicit Export(const DeviceArray& a) : array(a), strides(strides_of(a)) {
    const uint8_t code = a.dtype == DType::float32 ? dlpack::kFloat
                         : a.dtype == DType::uint8 ? dlpack::kUInt
                                                   : dlpack::kInt;
    const dlpack::Tensor tensor = {a.data,
                                   {dlpack::kCuda, 0},
                                   int32_t(a.shape.size()),
                                   {code, uint8_t(8 * size_of(a.dtype)), 1},
                                   array.shape.data(),
                                   strides.data(),
                                   0};
    plain = {tensor, this, [](dlpack::Managed* m) { delete static_cast<Export*>(m->context); }};
    versioned = {dlpack::kMajor,
                 dlpack::kMinor,
                 this,
                 [](dlpack::ManagedVersioned* m) { delete static_cast<Export*>(m->context); },
                 0,
                 tensor};
  }
};

constexpr char kPlain[] = "dltensor", kVersioned[] = "dltensor_versioned";

// What nobody took is given back with the capsule.
template <typename Managed>
void drop(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

// Both kinds of __dlpack__'s arguments are for a consumer on the same GPU. Whatever its stream: what was asked for
// before is complete when this returns.
py::object to_dlpack(const DeviceArray& a, const py::object& stream, const py::object& max_version,
                     const py::object& dl_device, const py::object& copied) {
  if (!dl_device.is_none() && !dl_device.equal(py::make_tuple(int(dlpack::kCuda), 0)))
    throw py::buffer_error("__dlpack__: dl_device is another device: expected (2, 0), got " +
                           std::string(py::repr(dl_device)));
  if (!stream.is_none() && stream.equal(py::int_(0)))
    throw py::value_error("__dlpack__: stream 0 has no meaning for CUDA: expected None, -1, 1, 2 or a stream");
  const bool wants_copy = !copied.is_none() && copied.cast<bool>();
  const DeviceArray given = wants_copy ? copy(a) : a;
  if (stream.is_none() || !stream.equal(py::int_(-1))) wait_for_stream();
  auto* out = new Export(given);
  if (wants_copy) out->versioned.flags = dlpack::kCopied;
  const bool versions = !max_version.is_none() && max_version.cast<std::pair<int, int>>().first >= int(dlpack::kMajor);
  PyObject* capsule = versions
                          ? PyCapsule_New(&out->versioned, kVersioned,
                                          [](PyObject* c) { drop<dlpack::ManagedVersioned>(c, kVersioned); })
                          : PyCapsule_New(&out->plain, kPlain, [](PyObject* c) { drop<dlpack::Managed>(c, kPlain); });
  if (!capsule) {
    delete out;
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(capsule);
}

[[noreturn]] void cannot_import(const std::string& what, const std::string& expected, const std::string& got) {
  throw py::buffer_error("from_dlpack: " + what + ": expected " + expected + ", got " + got);
}

DType imported_dtype(const dlpack::DataType& t) {
  for (const DType d : {DType::float32, DType::int32, DType::int64, DType::uint8}) {
    const uint8_t code = d == DType::float32 ? dlpack::kFloat : d == DType::uint8 ? dlpack::kUInt : dlpack::kInt;
    if (t.code == code && t.bits == 8 * size_of(d) && t.lanes == 1) return d;
  }
  cannot_import("the array has the wrong dtype", "float32, int32, int64 or uint8",
                "type code " + std::to_string(t.code) + " of " + std::to_string(t.bits) + " bits");
}

// Whether the strides are those that the array would have in this order of memory.
bool lies_in(const DeviceArray& a, const int64_t* strides) {
  const Shape want = strides_of(a);
  for (size_t i = 0; i < want.size(); i++)
    if (a.shape[i] != 1 && strides[i] != want[i]) return false;
  return true;
}

DeviceArray imported(const dlpack::Tensor& t, std::shared_ptr<void> owner) {
  if (t.device.type != dlpack::kCuda) cannot_import("the array is on another device", "CUDA", "a capsule of another");
  if (t.device.id != 0) cannot_import("the array is on another GPU", "cuda:0", "cuda:" + std::to_string(t.device.id));
  if (!t.data) return allocated(imported_dtype(t.dtype), Shape(t.shape, t.shape + t.ndim));  // no elements
  DeviceArray a{imported_dtype(t.dtype), static_cast<char*>(t.data) + t.byte_offset, Shape(t.shape, t.shape + t.ndim),
                std::move(owner), Layout::row_major};
  if (!t.strides || a.count() == 0 || lies_in(a, t.strides)) return a;
  a.layout = Layout::channels_last;
  if (a.shape.size() == 4 && lies_in(a, t.strides)) return a;
  cannot_import("the memory cannot be read in place", "row-major or channels-last order", "strided memory");
}

template <typename Managed>
DeviceArray take(const py::object& capsule, const char* name, const char* used) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!managed) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), used);
  // Another library's deleter may run Python.
  const std::shared_ptr<void> owner(managed->tensor.data, [managed](void*) {
    if (!managed->deleter) return;
    const py::gil_scoped_acquire lock;
    managed->deleter(managed);
  });
  return imported(managed->tensor, owner);
}

// The producer makes our stream wait for what it has under way.
DeviceArray from_cuda(py::handle object) {
  using namespace py::literals;
  const py::int_ stream(cuda::api().stream_handle());
  const py::object method = object.attr("__dlpack__");
  py::object capsule;
  try {
    capsule = method("stream"_a = stream, "max_version"_a = py::make_tuple(dlpack::kMajor, dlpack::kMinor));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    capsule = method("stream"_a = stream);  // from before version 1.0
  }
  if (PyCapsule_IsValid(capsule.ptr(), kVersioned))
    return take<dlpack::ManagedVersioned>(capsule, kVersioned, "used_dltensor_versioned");
  return take<dlpack::Managed>(capsule, kPlain, "used_dltensor");
}

bool is_on_cuda(py::handle object) {
  if (py::isinstance<py::array>(object) || !py::hasattr(object, "__dlpack_device__")) return false;
  return object.attr("__dlpack_device__")().cast<std::pair<int, int>>().first == dlpack::kCuda;
}

py::dict cuda_array_interface(const DeviceArray& a) {
  py::dict out;
  out["version"] = 3;
  out["shape"] = to_tuple(a.shape);
  out["typestr"] = numpy_dtype(a.dtype).attr("str");
  out["data"] = py::make_tuple(a.count() > 0 ? reinterpret_cast<uintptr_t>(a.data) : 0, false);
  out["strides"] = py::none();
  if (a.layout == Layout::channels_last) {
    Shape strides = strides_of(a);
    for (int64_t& s : strides) s *= size_of(a.dtype);
    out["strides"] = to_tuple(strides);
  }
  out["stream"] = cuda::api().stream_handle();
  return out;
}

}  // namespace

std::optional<DeviceArray> as_device_array(py::handle object) {
  if (py::isinstance<DeviceArray>(object)) return object.cast<DeviceArray>();
  if (is_on_cuda(object)) return from_cuda(object);
  return std::nullopt;
}

void bind_device_array(py::module_& m) {
  using namespace py::literals;
  py::class_<DeviceArray> type(m, "DeviceArray");
  type.attr("__module__") = "convcore";
  type.doc() =
      "An array in the memory of the GPU.\n\n"
      "`convcore.to_device` makes one of a NumPy array, and the functions of `convcore.functional` take and give "
      "them.\n"
      "Shapes are those of NumPy; images (N, C, H, W) may lie in channels-last order, which `strides` tells.\n"
      "`numpy()` is the way back: nothing else reads the values, and NumPy's own functions refuse the array.";
  type.def_property_readonly("shape", [](const DeviceArray& a) { return to_tuple(a.shape); })
      .def_property_readonly("dtype", [](const DeviceArray& a) { return numpy_dtype(a.dtype); })
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.shape.size(); })
      .def_property_readonly("size", &DeviceArray::count)
      .def_property_readonly("nbytes", &DeviceArray::bytes)
      .def_property_readonly("device", [](const DeviceArray&) { return "cuda"; })
      .def_property_readonly("strides", [](const DeviceArray& a) {
        Shape strides = strides_of(a);
        for (int64_t& s : strides) s *= size_of(a.dtype);
        return to_tuple(strides);
      });
  type.def("numpy", to_host)
      .def("to_device", [](py::object self, const std::string& device) { return moved(self, device); })
      .def("copy", copy)
      .def("reshape", reshaped)
      .def("item", item)
      .def("__float__", [](const DeviceArray& a) { return py::float_(item(a)); })
      .def("__int__", [](const DeviceArray& a) { return py::int_(item(a)); })
      .def("__bool__", [](const DeviceArray& a) { return py::bool_(item(a)); })
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.shape.empty()) throw py::type_error("DeviceArray: an array without axes has no length");
             return a.shape[0];
           })
      .def("__getitem__", item_at)
      .def("__setitem__", assign)
      .def("__repr__", repr)
      .def("__dlpack__", to_dlpack, py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
           "dl_device"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__", [](const DeviceArray&) { return py::make_tuple(int(dlpack::kCuda), 0); })
      .def_property_readonly("__cuda_array_interface__", cuda_array_interface)
      .def("__array__", [](const DeviceArray&, const py::args&, const py::kwargs&) -> py::object {
        throw py::type_error("DeviceArray: the array is in the memory of the GPU: NumPy needs a copy, use .numpy()");
      });
  type.attr("__iter__") = py::none();         // not row by row: each would be a copy
  type.attr("__array_ufunc__") = py::none();  // ndarray + DeviceArray: no operator, instead of an array of objects

  m.def("to_device", moved);
  m.def("device_zeros", zeros);
  m.def("from_dlpack", [](py::object array) -> py::object {
    if (const std::optional<DeviceArray> there = as_device_array(array)) return py::cast(*there);
    return as_numpy(array);
  });
}

}  // namespace convcore

// DLPack 1.0: the structs that array libraries hand to each other (github.com/dmlc/dlpack, include/dlpack/dlpack.h).
#pragma once
#include <cstdint>

namespace convcore::dlpack {

constexpr uint32_t kMajor = 1, kMinor = 0;

enum DeviceType : int32_t { kCpu = 1, kCuda = 2 };
struct Device {
  int32_t type, id;
};

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2 };
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: row-major
  uint64_t byte_offset;
};

// In a capsule "dltensor"; who takes it renames it "used_dltensor" and calls the deleter in the end.
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed* self);
};

// The same since version 1.0, in "dltensor_versioned".
constexpr uint64_t kReadOnly = 1, kCopied = 2;
struct ManagedVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(ManagedVersioned* self);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace convcore::dlpack

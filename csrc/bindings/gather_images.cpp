#include "ops/gather_images.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

// One float per channel of the images (M, C, H, W).
const float* per_channel(const char* name, const Arg<float>& values, const Shape& x) {
  if (!values.array.given()) return nullptr;
  const int64_t channels = x.size() == 4 ? x[1] : 0;
  if (x.size() == 4) expect_shape("gather_images", name, values.array.shape(), {channels}, "one per channel of x");
  return values.array.data();
}

}  // namespace

void bind_gather_images(py::module_& m) {
  m.def("gather_images", [](py::object x, py::object indices, int64_t pad, bool flip, uint64_t seed, uint64_t stream,
                            py::object scale, py::object shift, bool channels_last) {
    const char* op = "gather_images";
    const auto xa = pixels_arg(op, "x", x);
    const auto ia = label_arg(op, "indices", indices);
    const auto a = optional_tensor_arg(op, "scale", scale), b = optional_tensor_arg(op, "shift", shift);
    if (a.array.given() != b.array.given())
      fail(op, "scale and shift go together", "both or none", a.array.given() ? "scale only" : "shift only");
    const Shape& shape = xa.bytes.given() ? xa.bytes.shape() : xa.floats.shape();
    GatherImagesParams params;
    params.pad = pad;
    params.flip = flip;
    params.key = {seed, stream};
    params.scale = per_channel("scale", a, shape);
    params.shift = per_channel("shift", b, shape);
    params.layout = channels_last ? Layout::channels_last : Layout::row_major;
    Tensor y;
    {
      py::gil_scoped_release release;
      y = xa.bytes.given() ? gather_images(xa.bytes, ia.array, params) : gather_images(xa.floats, ia.array, params);
    }
    return to_python(y);
  });
}

}  // namespace convcore

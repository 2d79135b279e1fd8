#include "ops/pad.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

using Sides = std::array<int64_t, 4>;  // top, bottom, left, right

PadParams to_params(const char* op, const Sides& pad, const std::string& mode, float value) {
  return {parse_pad_mode(op, mode), value, pad[0], pad[1], pad[2], pad[3]};
}

}  // namespace

void bind_pad(py::module_& m) {
  m.def("pad_forward", [](py::object x, const Sides& pad, const std::string& mode, float value) {
    const auto xa = image_arg("pad", "x", x);
    const PadParams params = to_params("pad", pad, mode, value);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = pad_forward(xa.array, params);
    }
    return to_python(y);
  });
  m.def("pad_backward", [](py::object dy, const Shape& x_shape, const Sides& pad, const std::string& mode) {
    const auto dya = image_arg("pad_backward", "dy", dy);
    const PadParams params = to_params("pad_backward", pad, mode, 0);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = pad_backward(dya.array, x_shape, params);
    }
    return to_python(dx);
  });
}

}  // namespace convcore

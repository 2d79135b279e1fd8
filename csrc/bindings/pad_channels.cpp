#include "ops/pad_channels.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_pad_channels(py::module_& m) {
  using Pair = std::array<int64_t, 2>;
  m.def("pad_channels_forward", [](py::object x, const Pair& padding, const Pair& stride) {
    const auto xa = image_arg("pad_channels", "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = pad_channels_forward(xa.array, {padding[0], padding[1], stride[0], stride[1]});
    }
    return to_python(y);
  });
  m.def("pad_channels_backward", [](py::object dy, const Shape& x_shape, const Pair& padding, const Pair& stride) {
    const auto dya = image_arg("pad_channels_backward", "dy", dy);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = pad_channels_backward(dya.array, x_shape, {padding[0], padding[1], stride[0], stride[1]});
    }
    return to_python(dx);
  });
}

}  // namespace convcore

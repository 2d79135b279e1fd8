#include "ops/subsampling2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/windows.h"

namespace convcore {

void bind_subsampling2d(py::module_& m) {
  m.def("subsampling2d_forward", [](py::object x, py::object weight, py::object bias, const WindowTuples& windows) {
    const auto xa = image_arg("subsampling2d", "x", x), wa = tensor_arg("subsampling2d", "weight", weight);
    const auto ba = optional_tensor_arg("subsampling2d", "bias", bias);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = subsampling2d_forward(xa.array, wa.array, ba.array, to_windows(windows));
    }
    return to_python(y);
  });
  m.def("subsampling2d_backward", [](py::object dy, py::object x, py::object weight, const WindowTuples& windows,
                                     bool need_dx, bool need_dweight, bool need_dbias) {
    const auto dya = image_arg("subsampling2d_backward", "dy", dy);
    const auto xa = image_arg("subsampling2d", "x", x), wa = tensor_arg("subsampling2d", "weight", weight);
    Subsampling2dGrads grads;
    {
      py::gil_scoped_release release;
      grads =
          subsampling2d_backward(dya.array, xa.array, wa.array, to_windows(windows), need_dx, need_dweight, need_dbias);
    }
    return py::make_tuple(to_python(grads.dx), to_python(grads.dweight), to_python(grads.dbias));
  });
}

}  // namespace convcore

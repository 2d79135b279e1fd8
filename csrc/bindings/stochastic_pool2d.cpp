#include "ops/stochastic_pool2d.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/windows.h"

namespace convcore {

void bind_stochastic_pool2d(py::module_& m) {
  m.def("stochastic_pool2d_forward",
        [](py::object x, const WindowTuples& windows, bool training, uint64_t seed, uint64_t stream) {
          const auto xa = tensor_arg("stochastic_pool2d", "x", x);
          StochasticPool2dResult result;
          {
            py::gil_scoped_release release;
            result = stochastic_pool2d_forward(xa.array, to_windows(windows), training, {seed, stream});
          }
          return py::make_tuple(to_python(result.y), to_python(result.indices));
        });
  m.def("stochastic_pool2d_backward", [](py::object dy, py::object x, const WindowTuples& windows) {
    const auto dya = tensor_arg("stochastic_pool2d_backward", "dy", dy), xa = tensor_arg("stochastic_pool2d", "x", x);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = stochastic_pool2d_backward(dya.array, xa.array, to_windows(windows));
    }
    return to_python(dx);
  });
}

}  // namespace convcore

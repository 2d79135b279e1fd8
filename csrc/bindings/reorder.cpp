#include "ops/reorder.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_reorder(py::module_& m) {
  m.def("channels_last", [](py::object x) {
    const auto xa = image_arg("channels_last", "x", x);
    if (xa.array.layout() == Layout::channels_last) return xa.holder;
    Tensor y;
    {
      py::gil_scoped_release release;
      y = reorder("channels_last", xa.array, Layout::channels_last);
    }
    return y.owner() ? to_python(y) : xa.holder;  // no owner: a view of x, one channel or one pixel
  });
}

}  // namespace convcore

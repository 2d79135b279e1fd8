#include "ops/mse_loss.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_mse_loss(py::module_& m) {
  m.def("mse_loss_forward", [](py::object x, py::object target, const std::string& reduction) {
    const auto xa = tensor_arg("mse_loss", "x", x), ta = tensor_arg("mse_loss", "target", target);
    const Reduction r = parse_reduction("mse_loss", reduction);
    Tensor loss;
    {
      py::gil_scoped_release release;
      loss = mse_loss_forward(xa.array, ta.array, r);
    }
    return to_python(loss);
  });
  m.def("mse_loss_backward", [](py::object dy, py::object x, py::object target, const std::string& reduction,
                                bool need_dx, bool need_dtarget) {
    const char* op = "mse_loss_backward";
    const auto dya = tensor_arg(op, "dy", dy), xa = tensor_arg(op, "x", x), ta = tensor_arg(op, "target", target);
    const Reduction r = parse_reduction(op, reduction);
    MseLossGrads grads;
    {
      py::gil_scoped_release release;
      grads = mse_loss_backward(dya.array, xa.array, ta.array, r, need_dx, need_dtarget);
    }
    return py::make_tuple(to_python(grads.dx), to_python(grads.dtarget));
  });
}

}  // namespace convcore

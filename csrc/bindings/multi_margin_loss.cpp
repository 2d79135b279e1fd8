#include "ops/multi_margin_loss.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_multi_margin_loss(py::module_& m) {
  m.def("multi_margin_loss_forward", [](py::object x, py::object target, int64_t p, float margin, py::object weight,
                                        const std::string& reduction, bool need_gradient) {
    const char* op = "multi_margin_loss";
    const auto xa = tensor_arg(op, "x", x), wa = optional_tensor_arg(op, "weight", weight);
    const auto ta = label_arg(op, "target", target);
    const MultiMarginLossParams params{p, margin, parse_reduction(op, reduction)};
    MultiMarginLossResult result;
    {
      py::gil_scoped_release release;
      result = multi_margin_loss_forward(op, xa.array, ta.array, wa.array, params, need_gradient);
    }
    return py::make_tuple(to_python(result.loss), to_python(result.gradient));
  });
  m.def("multi_margin_loss_backward", [](py::object dy, py::object x, py::object target, int64_t p, float margin,
                                         py::object weight, const std::string& reduction, py::object saved) {
    const char* op = "multi_margin_loss_backward";
    const auto dya = tensor_arg(op, "dy", dy), xa = tensor_arg(op, "x", x);
    const auto wa = optional_tensor_arg(op, "weight", weight), gradient = optional_tensor_arg(op, "saved", saved);
    const auto ta = label_arg(op, "target", target);
    const MultiMarginLossParams params{p, margin, parse_reduction(op, reduction)};
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = multi_margin_loss_backward(dya.array, xa.array, ta.array, wa.array, params, gradient.array);
    }
    return to_python(dx);
  });
}

}  // namespace convcore

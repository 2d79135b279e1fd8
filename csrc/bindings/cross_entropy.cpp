#include "ops/cross_entropy.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

namespace {

// Labels of any integer dtype, or shares of the classes as float32.
struct TargetArg {
  Arg<int64_t> labels;
  Arg<float> shares;
  TargetArg(const char* op, py::handle object, const Shape& x) {
    if (is_float32(object, x.size()))
      shares = tensor_arg(op, "target", object);
    else
      labels = label_arg(op, "target", object);
  }
  CrossEntropyTarget get() const {
    return shares.array.given() ? CrossEntropyTarget(shares.array) : CrossEntropyTarget(labels.array);
  }
};

}  // namespace

void bind_cross_entropy(py::module_& m) {
  m.def("cross_entropy_forward", [](py::object x, py::object target, int64_t ignore_index, const std::string& reduction,
                                    float label_smoothing, bool need_gradient) {
    const char* op = "cross_entropy";
    const auto xa = tensor_arg(op, "x", x);
    const TargetArg ta(op, target, xa.array.shape());
    const CrossEntropyParams params{ignore_index, parse_reduction(op, reduction), label_smoothing};
    CrossEntropyResult result;
    {
      py::gil_scoped_release release;
      result = cross_entropy_forward(op, xa.array, ta.get(), params, need_gradient);
    }
    return py::make_tuple(to_python(result.loss), to_python(result.gradient));
  });
  m.def("cross_entropy_backward", [](py::object dy, py::object x, py::object target, int64_t ignore_index,
                                     const std::string& reduction, float label_smoothing, py::object saved) {
    const char* op = "cross_entropy_backward";
    const auto dya = tensor_arg(op, "dy", dy), xa = tensor_arg(op, "x", x);
    const TargetArg ta(op, target, xa.array.shape());
    const auto gradient = optional_tensor_arg(op, "saved", saved);
    const CrossEntropyParams params{ignore_index, parse_reduction(op, reduction), label_smoothing};
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = cross_entropy_backward(dya.array, xa.array, ta.get(), params, gradient.array);
    }
    return to_python(dx);
  });
}

}  // namespace convcore

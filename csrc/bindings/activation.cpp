#include "ops/activation.h"

#include <string>

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

// `alpha` and `beta` are read by those that have them. For activations whose gradient can be had from the output,
// `saved` is the output or None; with it, x may be None.
void bind(py::module_& m, Activation kind) {
  const std::string name = name_of(kind), backward = name + "_backward";
  m.def((name + "_forward").c_str(), [kind](py::object x, float alpha, float beta) {
    const auto xa = image_arg(name_of(kind), "x", x);
    Tensor y;
    {
      py::gil_scoped_release release;
      y = activation_forward(kind, xa.array, {alpha, beta});
    }
    return to_python(y);
  });
  m.def(backward.c_str(), [kind, backward](py::object dy, py::object x, py::object saved, float alpha, float beta) {
    const char* op = backward.c_str();
    const auto dya = image_arg(op, "dy", dy);
    const auto xa = saved.is_none() ? image_arg(op, "x", x) : optional_image_arg(op, "x", x);
    const auto ya = optional_image_arg(op, "saved", saved);
    Tensor dx;
    {
      py::gil_scoped_release release;
      dx = activation_backward(kind, dya.array, xa.array, ya.array, {alpha, beta});
    }
    return to_python(dx);
  });
}

}  // namespace

void bind_activation(py::module_& m) {
  for (int kind = 0; kind < kActivations; kind++) bind(m, Activation(kind));
}

}  // namespace convcore

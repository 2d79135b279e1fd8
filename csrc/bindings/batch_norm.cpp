#include "ops/batch_norm.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

// Running statistics are written in training, and only read otherwise.
Arg<float> running_arg(const char* name, py::handle object, bool training) {
  if (object.is_none()) return {};
  return training ? inout_arg("batch_norm", name, object) : tensor_arg("batch_norm", name, object);
}

}  // namespace

void bind_batch_norm(py::module_& m) {
  m.def("batch_norm_forward", [](py::object x, py::object running_mean, py::object running_var, py::object weight,
                                 py::object bias, bool training, double momentum, double eps) {
    const auto xa = image_arg("batch_norm", "x", x);
    const auto mean = running_arg("running_mean", running_mean, training);
    const auto var = running_arg("running_var", running_var, training);
    const auto wa = optional_tensor_arg("batch_norm", "weight", weight);
    const auto ba = optional_tensor_arg("batch_norm", "bias", bias);
    BatchNormResult result;
    {
      py::gil_scoped_release release;
      result = batch_norm_forward(xa.array, mean.array, var.array, wa.array, ba.array, {training, momentum, eps});
    }
    return py::make_tuple(to_python(result.y), to_python(result.saved.mean), to_python(result.saved.rstd));
  });
  m.def("batch_norm_backward", [](py::object dy, py::object x, py::object running_mean, py::object running_var,
                                  py::object weight, bool training, double momentum, double eps, py::object saved_mean,
                                  py::object saved_rstd, bool need_dx, bool need_dweight, bool need_dbias) {
    const auto dya = image_arg("batch_norm_backward", "dy", dy), xa = image_arg("batch_norm", "x", x);
    const auto mean = optional_tensor_arg("batch_norm", "running_mean", running_mean);
    const auto var = optional_tensor_arg("batch_norm", "running_var", running_var);
    const auto wa = optional_tensor_arg("batch_norm", "weight", weight);
    const auto sm = optional_tensor_arg("batch_norm_backward", "saved mean", saved_mean);
    const auto sr = optional_tensor_arg("batch_norm_backward", "saved rstd", saved_rstd);
    BatchNormGrads grads;
    {
      py::gil_scoped_release release;
      grads = batch_norm_backward(dya.array, xa.array, mean.array, var.array, wa.array, {training, momentum, eps},
                                  {sm.array, sr.array}, need_dx, need_dweight, need_dbias);
    }
    return py::make_tuple(to_python(grads.dx), to_python(grads.dweight), to_python(grads.dbias));
  });
}

}  // namespace convcore

// group_norm and layer_norm.
#include "ops/group_norm.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {
namespace {

py::tuple forward(const char* op, const GroupNormShape& s, const Shape& parameters, const Tensor& x, py::object weight,
                  py::object bias, double eps) {
  const auto wa = optional_tensor_arg(op, "weight", weight), ba = optional_tensor_arg(op, "bias", bias);
  GroupNormResult result;
  {
    py::gil_scoped_release release;
    result = group_norm_forward(op, s, parameters, x, wa.array, ba.array, eps);
  }
  return py::make_tuple(to_python(result.y), to_python(result.mean), to_python(result.rstd));
}

struct Asked {
  py::object saved_mean, saved_rstd;
  bool dx, dweight, dbias;
};

py::tuple backward(const char* op, const GroupNormShape& s, const Shape& parameters, py::object dy, const Tensor& x,
                   py::object weight, double eps, const Asked& asked) {
  const std::string backward = std::string(op) + "_backward";
  const auto dya = tensor_arg(backward.c_str(), "dy", dy), wa = optional_tensor_arg(op, "weight", weight);
  const auto mean = optional_tensor_arg(backward.c_str(), "saved mean", asked.saved_mean);
  const auto rstd = optional_tensor_arg(backward.c_str(), "saved rstd", asked.saved_rstd);
  GroupNormGrads grads;
  {
    py::gil_scoped_release release;
    grads = group_norm_backward(op, s, parameters, dya.array, x, wa.array, eps, mean.array, rstd.array, asked.dx,
                                asked.dweight, asked.dbias);
  }
  return py::make_tuple(to_python(grads.dx), to_python(grads.dweight), to_python(grads.dbias));
}

}  // namespace

void bind_group_norm(py::module_& m) {
  m.def("group_norm_forward", [](py::object x, int64_t num_groups, py::object weight, py::object bias, double eps) {
    const auto xa = tensor_arg("group_norm", "x", x);
    const GroupNormShape s = infer_group_norm_shape(xa.array.shape(), num_groups);
    return forward("group_norm", s, {s.all_channels()}, xa.array, weight, bias, eps);
  });
  m.def("group_norm_backward",
        [](py::object dy, py::object x, int64_t num_groups, py::object weight, double eps, py::object saved_mean,
           py::object saved_rstd, bool need_dx, bool need_dweight, bool need_dbias) {
          const auto xa = tensor_arg("group_norm", "x", x);
          const GroupNormShape s = infer_group_norm_shape(xa.array.shape(), num_groups);
          return backward("group_norm", s, {s.all_channels()}, dy, xa.array, weight, eps,
                          {saved_mean, saved_rstd, need_dx, need_dweight, need_dbias});
        });
  m.def("layer_norm_forward",
        [](py::object x, const Shape& normalized_shape, py::object weight, py::object bias, double eps) {
          const auto xa = tensor_arg("layer_norm", "x", x);
          return forward("layer_norm", infer_layer_norm_shape(xa.array.shape(), normalized_shape), normalized_shape,
                         xa.array, weight, bias, eps);
        });
  m.def("layer_norm_backward",
        [](py::object dy, py::object x, const Shape& normalized_shape, py::object weight, double eps,
           py::object saved_mean, py::object saved_rstd, bool need_dx, bool need_dweight, bool need_dbias) {
          const auto xa = tensor_arg("layer_norm", "x", x);
          return backward("layer_norm", infer_layer_norm_shape(xa.array.shape(), normalized_shape), normalized_shape,
                          dy, xa.array, weight, eps, {saved_mean, saved_rstd, need_dx, need_dweight, need_dbias});
        });
}

}  // namespace convcore

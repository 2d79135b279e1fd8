#include "ops/optimizer.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_optimizer(py::module_& m) {
  m.def("sgd_step", [](py::object param, py::object grad, py::object buffer, double lr, double momentum,
                       double dampening, double weight_decay, bool nesterov, bool first_step, double l1) {
    const auto pa = inout_arg("sgd_step", "param", param), ga = tensor_arg("sgd_step", "grad", grad);
    const auto ba = optional_inout_arg("sgd_step", "momentum_buffer", buffer);
    py::gil_scoped_release release;
    sgd_step(pa.array, ga.array, ba.array, {lr, momentum, dampening, weight_decay, nesterov, first_step, l1});
  });
  m.def("adam_step", [](py::object param, py::object grad, py::object mean, py::object square, double lr, double beta1,
                        double beta2, double eps, double weight_decay, bool decoupled, int64_t step, double l1) {
    const auto pa = inout_arg("adam_step", "param", param), ga = tensor_arg("adam_step", "grad", grad);
    const auto ma = inout_arg("adam_step", "exp_avg", mean), sa = inout_arg("adam_step", "exp_avg_sq", square);
    py::gil_scoped_release release;
    adam_step(pa.array, ga.array, ma.array, sa.array, {lr, beta1, beta2, eps, weight_decay, decoupled, step, l1});
  });
  m.def("rmsprop_step",
        [](py::object param, py::object grad, py::object square, py::object mean, py::object buffer, double lr,
           double alpha, double eps, double weight_decay, double momentum, bool centered, double l1) {
          const auto pa = inout_arg("rmsprop_step", "param", param), ga = tensor_arg("rmsprop_step", "grad", grad);
          const auto sa = inout_arg("rmsprop_step", "square_avg", square);
          const auto ma = optional_inout_arg("rmsprop_step", "grad_avg", mean);
          const auto ba = optional_inout_arg("rmsprop_step", "momentum_buffer", buffer);
          py::gil_scoped_release release;
          rmsprop_step(pa.array, ga.array, sa.array, ma.array, ba.array,
                       {lr, alpha, eps, weight_decay, momentum, centered, l1});
        });
  m.def("adagrad_step", [](py::object param, py::object grad, py::object sum, double lr, double lr_decay, double eps,
                           double weight_decay, int64_t step, double l1) {
    const auto pa = inout_arg("adagrad_step", "param", param), ga = tensor_arg("adagrad_step", "grad", grad);
    const auto sa = inout_arg("adagrad_step", "sum", sum);
    py::gil_scoped_release release;
    adagrad_step(pa.array, ga.array, sa.array, {lr, lr_decay, eps, weight_decay, step, l1});
  });
  m.def("limit_norms", [](py::object param, double max_norm) {
    const auto pa = inout_arg("limit_norms", "param", param);
    py::gil_scoped_release release;
    limit_norms(pa.array, max_norm);
  });
}

}  // namespace convcore

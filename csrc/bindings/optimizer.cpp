#include "ops/optimizer.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_optimizer(py::module_& m) {
  m.def("sgd_step", [](py::object param, py::object grad, py::object buffer, double lr, double momentum,
                       double dampening, double weight_decay, bool nesterov, bool first_step) {
    const auto pa = inout_arg("sgd_step", "param", param), ga = tensor_arg("sgd_step", "grad", grad);
    const auto ba = buffer.is_none() ? Arg<float>{} : inout_arg("sgd_step", "momentum_buffer", buffer);
    py::gil_scoped_release release;
    sgd_step(pa.array, ga.array, ba.array, {lr, momentum, dampening, weight_decay, nesterov, first_step});
  });
  m.def("adam_step", [](py::object param, py::object grad, py::object mean, py::object square, double lr, double beta1,
                        double beta2, double eps, double weight_decay, bool decoupled, int64_t step) {
    const auto pa = inout_arg("adam_step", "param", param), ga = tensor_arg("adam_step", "grad", grad);
    const auto ma = inout_arg("adam_step", "exp_avg", mean), sa = inout_arg("adam_step", "exp_avg_sq", square);
    py::gil_scoped_release release;
    adam_step(pa.array, ga.array, ma.array, sa.array, {lr, beta1, beta2, eps, weight_decay, decoupled, step});
  });
}

}  // namespace convcore

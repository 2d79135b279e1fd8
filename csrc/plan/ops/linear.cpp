#include <algorithm>

#include "cpu/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

constexpr int64_t kGradientRows = 16;  // of the weight, in a task of its gradient: enough tasks for an even split

LinearShape shape_of(Builder& b, int i) {
  const Shape &x = b.shape(b.input_of(i).y), &w = b.parameter_shape(i, 0);
  if (x.size() != 1 || w.size() != 2 || x[0] != w[1])
    fail("plan", "linear cannot be planned", "one row of in_features per image", to_string(x));
  return {b.options.images, w[1], w[0]};
}

LinearShape of_block(LinearShape s, const Block& block) {
  s.n = block.count();
  return s;
}

// The weight as the product reads it, packed once per step for all blocks.
BufferId pack(Builder& b, int i, const LinearShape& s, bool backward) {
  const int weight = b.parameter(i, 0);
  const BufferId packed = b.program.buffer(Per::program, cpu::kernels().linear.packed_floats(s, backward));
  b.prepare("pack " + b.node(i).name + (backward ? " for backward" : ""), double(s.in * s.out) / (backward ? 8 : 4),
            [=](const Frame& f) {
              cpu::kernels().linear.pack(s, backward, f.parameters[size_t(weight)].data, f.buffer(packed));
            });
  return packed;
}

void forward(Builder& b, int i) {
  const LinearShape s = shape_of(b, i);
  const int bias = b.parameter(i, 1);
  const ValueId x = b.input_of(i).y, y = b.program.value(b.node(i).name, {s.out});
  b.made(i).y = y;
  b.count_work(double(s.in) * double(s.out) * (b.options.training ? 3 : 1));
  const BufferId packed = pack(b, i, s, false);
  b.program.block("linear", {x}, {y}, [=](const Frame& f, const Block& block) {
    cpu::kernels().linear.forward_packed(of_block(s, block), f.at(x, block), f.buffer(packed),
                                         bias < 0 ? nullptr : f.parameters[size_t(bias)].data, f.at(y, block));
  });
}

// The gradients of weight and bias are sums over the whole batch, cut by rows of the weight: no partial sums.
void backward(Builder& b, int i) {
  const LinearShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const ValueId dy = b.made(i).dy;
  if (b.trains(i, 0)) {
    const ValueId x = b.recalled(b.node(i).inputs[0], dy);
    const int64_t tasks = (s.out + kGradientRows - 1) / kGradientRows;
    const int phase = b.program.tasks(
        "linear backward weight", {dy, x}, 0, tasks, double(s.n * s.in) * double(s.out) / double(tasks) / 16,
        [=](const Frame& f, int64_t task, int) {
          cpu::kernels().linear.backward_weight_rows(s, s.out * task / tasks, s.out * (task + 1) / tasks, f.whole(dy),
                                                     f.whole(x), f.parameters[size_t(weight)].grad);
        });
    b.gradient_written(weight, phase + 1);
  }
  if (b.trains(i, 1)) {
    const int phase = b.program.tasks(
        "linear backward bias", {dy}, 0, 1, double(s.n * s.out) / 16, [=](const Frame& f, int64_t, int) {
          cpu::kernels().linear.backward_bias(s, f.whole(dy), f.parameters[size_t(bias)].grad);
        });
    b.gradient_written(bias, phase + 1);
  }
  if (!b.input_of(i).needs_gradient) return;
  const ValueId dx = b.program.value("d" + b.program[b.input_of(i).y].name, {s.in});
  const BufferId packed = pack(b, i, s, true);
  b.program.block("linear backward input", {dy}, {dx}, [=](const Frame& f, const Block& block) {
    cpu::kernels().linear.backward_input_packed(of_block(s, block), f.at(dy, block), f.buffer(packed), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kLinearSteps{forward, backward};

}  // namespace convcore::plan

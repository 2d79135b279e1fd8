#include <algorithm>

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// Of the weight, in a task of its gradient: enough tasks for an even split, in the multiples that pack_rows takes.
constexpr int64_t kGradientRows = 16;

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

// Whether the packed weight stays valid from step to step: when it is trained, its update packs what it has changed.
bool stays_packed(Builder& b, int i) { return b.updates_at_once(i) || !b.trains(i, 0); }

// The weight as the product reads it, packed once for all blocks.
BufferId pack(Builder& b, int i, const LinearShape& s, bool backward) {
  const int weight = b.parameter(i, 0);
  const BufferId packed = b.program.buffer(Per::program, current_kernels().linear.packed_floats(s, backward));
  b.prepare(
      "pack " + b.node(i).name + (backward ? " for backward" : ""), double(s.in * s.out) / (backward ? 8 : 4),
      [=](const Frame& f) {
        current_kernels().linear.pack(s, backward, f.parameters[size_t(weight)].data, f.buffer(packed));
      },
      stays_packed(b, i));
  b.made(i).buffers.push_back(packed);
  return packed;
}

void forward(Builder& b, int i) {
  const LinearShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const ValueId x = b.input_of(i).y, y = b.program.value(b.node(i).name, {s.out});
  b.made(i).y = y;
  b.count_work(double(s.in) * double(s.out) * (b.options.training ? 3 : 1));
  if (b.on_cuda()) {  // reads the weight as it is
    b.program.block("linear", {x}, {y}, [=](const Frame& f, const Block& block) {
      current_kernels().linear.forward(s, f.at(x, block), f.parameters[size_t(weight)].data,
                                       bias < 0 ? nullptr : f.parameters[size_t(bias)].data, f.at(y, block));
    });
    return;
  }
  const BufferId packed = pack(b, i, s, false);
  b.program.block("linear", {x}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().linear.forward_packed(of_block(s, block), f.at(x, block), f.buffer(packed),
                                            bias < 0 ? nullptr : f.parameters[size_t(bias)].data, f.at(y, block));
  });
}

// The gradient of the weight is one sum over the whole batch, cut by rows: no partial sums. A task brings its rows from
// the gradient to the packed weight of the next step while they are in the cache. `after`: no step reads the packed
// weight from this phase on.
void train_weight(Builder& b, int i, ValueId dy, int after) {
  const LinearShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), group = b.group_of(weight);
  const ValueId x = b.recalled(b.node(i).inputs[0], dy);
  const std::vector<BufferId> packed = b.made(i).buffers;  // forward, backward
  const bool update = b.updates_at_once(i);
  const int64_t tasks = (s.out + kGradientRows - 1) / kGradientRows;
  const double cost = double(s.in * std::min(s.out, kGradientRows)) * (double(s.n) / 16 + 1);
  const int phase =
      b.program.tasks(update ? "linear backward weight, update and pack" : "linear backward weight", {dy, x}, after,
                      tasks, cost, [=](const Frame& f, int64_t task, int) {
                        const int64_t begin = task * kGradientRows, end = std::min(s.out, begin + kGradientRows);
                        const ParameterMemory& w = f.parameters[size_t(weight)];
                        current_kernels().linear.backward_weight_rows(s, begin, end, f.whole(dy), f.whole(x), w.grad);
                        if (!update) return;
                        f.update(group, w, begin * s.in, (end - begin) * s.in);
                        for (size_t k = 0; k < packed.size(); k++)
                          current_kernels().linear.pack_rows(s, k == 1, begin, end, w.data, f.buffer(packed[k]));
                      });
  if (!update) b.gradient_written(weight, phase + 1);
}

void train_bias(Builder& b, int i, ValueId dy) {
  const LinearShape s = shape_of(b, i);
  const int bias = b.parameter(i, 1), group = b.group_of(bias);
  const bool update = b.updates_at_once(i);
  const int phase = b.program.tasks(update ? "linear backward bias and update" : "linear backward bias", {dy}, 0, 1,
                                    double(s.n * s.out) / 16, [=](const Frame& f, int64_t, int) {
                                      const ParameterMemory& memory = f.parameters[size_t(bias)];
                                      current_kernels().linear.backward_bias(s, f.whole(dy), memory.grad);
                                      if (update) f.update(group, memory, 0, s.out);
                                    });
  if (!update) b.gradient_written(bias, phase + 1);
}

// On a GPU: the whole gradients by one call each.
void backward_on_device(Builder& b, int i) {
  const LinearShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0);
  const ValueId dy = b.made(i).dy, x = b.input_of(i).y;
  if (b.trains(i, 0))
    b.sum_gradients("linear backward weight", {weight}, {dy, x},
                    [=](const Frame& f, const Block& all, float* const* dw) {
                      current_kernels().linear.backward_weight(s, f.at(dy, all), f.at(x, all), dw[0]);
                    });
  if (b.trains(i, 1))
    b.sum_gradients("linear backward bias", {b.parameter(i, 1)}, {dy},
                    [=](const Frame& f, const Block& all, float* const* db) {
                      current_kernels().linear.backward_bias(s, f.at(dy, all), db[0]);
                    });
  if (!b.input_of(i).needs_gradient) return;
  const ValueId dx = b.program.value("d" + b.program[x].name, {s.in});
  b.program.block("linear backward input", {dy}, {dx}, [=](const Frame& f, const Block& all) {
    current_kernels().linear.backward_input(s, f.at(dy, all), f.parameters[size_t(weight)].data, f.at(dx, all));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

void backward(Builder& b, int i) {
  if (b.on_cuda()) return backward_on_device(b, i);
  const LinearShape s = shape_of(b, i);
  const ValueId dy = b.made(i).dy;
  int after = 0;
  if (b.input_of(i).needs_gradient) {
    const ValueId dx = b.program.value("d" + b.program[b.input_of(i).y].name, {s.in});
    const BufferId packed = pack(b, i, s, true);
    after = 1 + b.program.block("linear backward input", {dy}, {dx}, [=](const Frame& f, const Block& block) {
      current_kernels().linear.backward_input_packed(of_block(s, block), f.at(dy, block), f.buffer(packed),
                                                     f.at(dx, block));
    });
    b.add_gradient(b.node(i).inputs[0], dx, true);
  }
  if (b.trains(i, 0)) train_weight(b, i, dy, after);
  if (b.trains(i, 1)) train_bias(b, i, dy);
}

}  // namespace

const OpSteps kLinearSteps{forward, backward};

}  // namespace convcore::plan

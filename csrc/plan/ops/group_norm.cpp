// group_norm and layer_norm: samples do not see each other, so a block computes all it needs.
#include "ops/group_norm.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

GroupNormShape shape_of(Builder& b, int i) {
  const Node& n = b.node(i);
  const Shape x = b.batch_shape(b.input_of(i).y);
  if (n.integer("groups") > 0) return infer_group_norm_shape(x, n.integer("groups"));
  Shape normalized;
  for (size_t axis = 0; axis < size_t(n.integer("dimensions")); axis++)
    normalized.push_back(n.integer("normalized_shape", axis));
  GroupNormShape s = infer_layer_norm_shape(x, normalized);
  if (normalized.size() + 1 != x.size())
    fail("plan", "layer_norm cannot be planned", "the whole of an image", to_string(normalized));
  return s;
}

GroupNormShape of_block(GroupNormShape s, const Block& block) {
  s.n = block.count();
  return s;
}

const float* data(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }

void forward(Builder& b, int i) {
  const GroupNormShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const double eps = b.node(i).number("eps");
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::row_major);
  const ValueId mean = b.program.value(b.node(i).name + " mean", {s.groups});
  const ValueId rstd = b.program.value(b.node(i).name + " rstd", {s.groups});
  const ValueId y = b.program.value(b.node(i).name, b.shape(x));
  b.made(i).y = y, b.made(i).values = {x, mean, rstd};
  b.program.block("group_norm", {x}, {y, mean, rstd}, [=](const Frame& f, const Block& block) {
    current_kernels().group_norm.forward(of_block(s, block), eps, f.at(x, block), data(f, weight), data(f, bias),
                                         f.at(y, block), f.at(mean, block), f.at(rstd, block));
  });
}

void backward(Builder& b, int i) {
  const GroupNormShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0);
  const ValueId x = b.made(i).values[0], mean = b.made(i).values[1], rstd = b.made(i).values[2];
  const ValueId dy = b.gradient(i, Layout::row_major);
  const bool with_weight = b.trains(i, 0), with_bias = b.trains(i, 1);
  std::vector<int> parameters;
  if (with_weight) parameters.push_back(b.parameter(i, 0));
  if (with_bias) parameters.push_back(b.parameter(i, 1));
  if (!parameters.empty())
    b.sum_gradients("group_norm backward weight", parameters, {dy, x, mean, rstd},
                    [=](const Frame& f, const Block& block, float* const* sums) {
                      current_kernels().group_norm.backward_weight(
                          of_block(s, block), f.at(dy, block), f.at(x, block), f.at(mean, block), f.at(rstd, block),
                          with_weight ? sums[0] : nullptr, with_bias ? sums[with_weight] : nullptr);
                    });
  if (!b.input_of(i).needs_gradient) return;
  const ValueId dx = b.program.value("d" + b.program[x].name, b.shape(x));
  b.program.block("group_norm backward", {dy, x, mean, rstd}, {dx}, [=](const Frame& f, const Block& block) {
    current_kernels().group_norm.backward_input(of_block(s, block), f.at(dy, block), f.at(x, block), f.at(mean, block),
                                                f.at(rstd, block), data(f, weight), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kGroupNormSteps{forward, backward};

}  // namespace convcore::plan

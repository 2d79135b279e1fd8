#include "ops/activation.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

Activation kind_of(Builder& b, int i) { return Activation(b.node(i).integer("kind")); }

ActivationParams params_of(Builder& b, int i) {
  return {float(b.node(i).number("alpha")), float(b.node(i).number("beta"))};
}

void forward(Builder& b, int i) {
  const Activation kind = kind_of(b, i);
  const ActivationParams params = params_of(b, i);
  const ValueId x = b.input_of(i).y;
  const ValueId y = b.program.value(b.node(i).name, b.shape(x), b.program[x].layout);
  const int64_t floats = b.program[y].floats;
  b.made(i).y = y;
  b.program.block(name_of(kind), {x}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().activation.forward[int(kind)](block.count() * floats, params, f.at(x, block), f.at(y, block));
  });
}

void backward(Builder& b, int i) {
  const Activation kind = kind_of(b, i);
  const ActivationParams params = params_of(b, i);
  ValueId of = b.made(i).y;
  if (kind != Activation::relu && !gradient_reads_output(kind)) of = b.recalled(b.node(i).inputs[0], b.made(i).dy);
  const ValueId dy = b.gradient(i, b.program[of].layout);
  const ValueId dx = b.gradient_in_place(i, "d" + b.program[b.input_of(i).y].name);
  const int64_t floats = b.program[dx].floats;
  b.program.block(std::string(name_of(kind)) + " backward", {dy, of}, {dx}, [=](const Frame& f, const Block& block) {
    current_kernels().activation.backward[int(kind)](block.count() * floats, params, f.at(dy, block), f.at(of, block),
                                                     f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kActivationSteps{forward, backward};

}  // namespace convcore::plan

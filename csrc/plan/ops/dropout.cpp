#include "ops/dropout.h"

#include "cpu/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// Emits to = from * mask. Both are row-major: the positions of the elements are those of the op.
void apply(Builder& b, int i, const char* text, ValueId from, ValueId to) {
  const double p = b.node(i).number("p");
  const int64_t number = b.node(i).integer("number"), floats = b.program[to].floats;
  b.program.block(text, {from}, {to}, [=](const Frame& f, const Block& block) {
    cpu::DropoutMask mask = dropout_mask({p, f.input.dropout_keys[number]});
    mask.first = block.begin * floats;
    cpu::kernels().dropout.apply(block.count() * floats, mask, f.at(from, block), f.at(to, block));
  });
}

void forward(Builder& b, int i) {
  if (!b.options.training) {
    b.made(i).y = b.input_of(i).y;
    return;
  }
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::row_major);
  const ValueId y = b.program.value(b.node(i).name, b.shape(x));
  b.made(i).y = y;
  apply(b, i, "dropout", x, y);
}

void backward(Builder& b, int i) {
  const ValueId dy = b.gradient(i, Layout::row_major);
  const ValueId dx = b.gradient_in_place(i, "d" + b.program[b.input_of(i).y].name);
  apply(b, i, "dropout backward", dy, dx);
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kDropoutSteps{forward, backward};

}  // namespace convcore::plan

#include "ops/dropout.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// Emits to = from * mask. Both are row-major: the positions of the elements are those of the op.
void apply(Builder& b, int i, const char* text, ValueId from, ValueId to) {
  const double p = b.node(i).number("p");
  const int64_t number = b.node(i).integer("number"), floats = b.program[to].floats;
  b.program.block(text, {from}, {to}, [=](const Frame& f, const Block& block) {
    DropoutMask mask = dropout_mask(p);
    mask.first = block.begin * floats;
    current_kernels().dropout.apply(block.count() * floats, f.input.dropout_keys + number, mask, f.at(from, block),
                                    f.at(to, block));
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

// ---- dropout2d: in the layout that comes
// ------------------------------------------------------------------------------

// Emits to = from * mask, one number of the mask per image and channel. `to` may be the memory of `from`.
void apply_to_channels(Builder& b, int i, const char* text, ValueId from, ValueId to) {
  const double p = b.node(i).number("p");
  const int64_t number = b.node(i).integer("number"), channels = b.shape(to)[0];
  const int64_t floats = b.program[to].floats, plane = channels ? floats / channels : 0;
  const Layout layout = b.program[to].layout;
  const ValueId factors = b.program.value(std::string(text) + " mask", {channels});
  b.program.block(text, {from}, {factors, to}, [=](const Frame& f, const Block& block) {
    DropoutMask mask = dropout_mask(p);
    mask.first = block.begin * channels;
    float* factor = f.at(factors, block);
    current_kernels().dropout.apply(block.count() * channels, f.input.dropout_keys + number, mask, nullptr, factor);
    current_kernels().dropout.apply_to_channels({block.count(), channels, plane, layout}, f.at(from, block), factor,
                                                f.at(to, block));
  });
}

void forward_channels(Builder& b, int i) {
  const ValueId x = b.input_of(i).y;
  b.made(i).y = x;
  if (!b.options.training) return;
  const ValueId y = b.program.value(b.node(i).name, b.shape(x), b.program[x].layout);
  b.made(i).y = y;
  apply_to_channels(b, i, "dropout2d", x, y);
}

void backward_channels(Builder& b, int i) {
  const ValueId dy = b.gradient(i, b.program[b.made(i).y].layout);
  const ValueId dx = b.gradient_in_place(i, "d" + b.program[b.input_of(i).y].name);
  apply_to_channels(b, i, "dropout2d backward", dy, dx);
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kDropoutSteps{forward, backward};
const OpSteps kDropout2dSteps{forward_channels, backward_channels};

}  // namespace convcore::plan

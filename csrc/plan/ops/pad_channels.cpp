#include "ops/pad_channels.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

PadChannelsShape shape_of(Builder& b, int i) {
  const Shape& x = b.shape(b.input_of(i).y);
  const Node& n = b.node(i);
  PadChannelsShape s{};
  s.n = 0, s.c_in = x[0], s.h_in = x[1], s.w_in = x[2];
  s.before = n.integer("padding", 0), s.stride_h = n.integer("stride", 0), s.stride_w = n.integer("stride", 1);
  s.c_out = s.before + s.c_in + n.integer("padding", 1);
  s.h_out = (s.h_in + s.stride_h - 1) / s.stride_h, s.w_out = (s.w_in + s.stride_w - 1) / s.stride_w;
  return s;
}

PadChannelsShape of_block(PadChannelsShape s, const Block& block) {
  s.n = block.count();
  return s;
}

void forward(Builder& b, int i) {
  const PadChannelsShape s = shape_of(b, i);
  const ValueId x = b.input_of(i).y;
  const bool last = b.program[x].layout == Layout::channels_last;
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, b.program[x].layout);
  b.made(i).y = y;
  b.program.block("pad_channels", {x}, {y}, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().pad_channels;
    (last ? kernels.forward_channels_last : kernels.forward)(of_block(s, block), f.at(x, block), f.at(y, block));
  });
}

void backward(Builder& b, int i) {
  const PadChannelsShape s = shape_of(b, i);
  const Value& x = b.program[b.input_of(i).y];
  const bool last = x.layout == Layout::channels_last;
  const ValueId dy = b.gradient(i, x.layout), dx = b.program.value("d" + x.name, b.shape(b.input_of(i).y), x.layout);
  b.program.block("pad_channels backward", {dy}, {dx}, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().pad_channels;
    (last ? kernels.backward_channels_last : kernels.backward)(of_block(s, block), f.at(dy, block), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kPadChannelsSteps{forward, backward};

}  // namespace convcore::plan

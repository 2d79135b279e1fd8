#include "ops/pad.h"

#include "core/window.h"
#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// The padding of the convolution that follows; with `same` from the size of the image and the window.
PadShape shape_of(Builder& b, int i) {
  const Node& n = b.node(i);
  const Shape& x = b.shape(b.input_of(i).y);
  if (x.size() != 3) fail("plan", "pad cannot be planned", "images (C, H, W)", to_string(x));
  std::array<std::array<int64_t, 2>, 2> pads;
  for (size_t axis = 0; axis < 2; axis++)
    pads[axis] = n.integer("same")
                     ? same_padding(x[axis + 1], n.integer("kernel_size", axis), n.integer("stride", axis),
                                    n.integer("dilation", axis))
                     : std::array<int64_t, 2>{n.integer("padding", 2 * axis), n.integer("padding", 2 * axis + 1)};
  return infer_pad_shape("pad", b.batch_shape(b.input_of(i).y),
                         {PadMode(n.integer("mode")), 0, pads[0][0], pads[0][1], pads[1][0], pads[1][1]});
}

PadShape of_block(PadShape s, const Block& block) {
  s.n = block.count();
  return s;
}

void forward(Builder& b, int i) {
  const PadShape s = shape_of(b, i);
  const ValueId x = b.input_of(i).y;
  const Layout layout = b.program[x].layout;
  const ValueId y = b.program.value(b.node(i).name, {s.c, s.h_out, s.w_out}, layout);
  b.made(i).y = y;
  b.program.block("pad", {x}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().pad.forward(of_block(s, block), layout, f.at(x, block), f.at(y, block));
  });
}

void backward(Builder& b, int i) {
  const PadShape s = shape_of(b, i);
  const ValueId x = b.input_of(i).y;
  const Layout layout = b.program[x].layout;
  const ValueId dy = b.gradient(i, layout), dx = b.program.value("d" + b.program[x].name, b.shape(x), layout);
  b.program.block("pad backward", {dy}, {dx}, [=](const Frame& f, const Block& block) {
    current_kernels().pad.backward(of_block(s, block), layout, f.at(dy, block), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kPadSteps{forward, backward};

}  // namespace convcore::plan

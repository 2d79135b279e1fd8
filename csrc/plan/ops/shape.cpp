// The input, and ops that compute nothing or one addition: input, flatten, add.
#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// Gathers the images of a block from the data set. Where a later phase needs them again, they are gathered again.
ValueId gather(Builder& b, int after) {
  const bool last = b.on_cuda() && b.options.input.size() == 3;
  const ValueId x = b.program.value("x", b.options.input, last ? Layout::channels_last : Layout::row_major);
  const Shape& shape = b.options.input;
  const int64_t floats = b.program[x].floats;
  const GatherImagesShape image =  // samples of another shape are lines
      shape.size() == 3 ? GatherImagesShape{shape[0], shape[1], shape[2]} : GatherImagesShape{1, 1, floats};
  b.program.block(
      "gather", {}, {x},
      [=](const Frame& f, const Block& block) {
        const auto& kernels = current_kernels().gather_images;
        const PassInput& in = f.input;
        GatherImagesParams params = in.gather;
        params.layout = last ? Layout::channels_last : Layout::row_major;
        const int64_t* order = in.order ? in.order + block.begin : nullptr;
        const int64_t skipped = in.order ? 0 : block.begin * floats;
        if (in.bytes)
          kernels.from_uint8(image, params, in.gather_key, in.bytes + skipped, order, 0, block.count(), f.at(x, block));
        else
          kernels.from_float(image, params, in.gather_key, in.floats + skipped, order, 0, block.count(),
                             f.at(x, block));
      },
      after);
  return x;
}

void input_forward(Builder& b, int i) {
  b.made(i).y = gather(b, Builder::kFirstPhase);
  const int phase = b.program.phase_of(b.made(i).y);
  if (b.on_cuda()) return;  // it is kept
  b.made(i).recall = [&b, i, phase](ValueId with) {
    const int now = b.program.phase_of(with);
    return now == phase ? b.made(i).y : gather(b, now);
  };
}

void input_backward(Builder&, int) {}

void flatten_forward(Builder& b, int i) {
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::row_major);
  b.made(i).y = b.program.alias(x, b.node(i).name, {b.program[x].floats}, Layout::row_major);
}

void flatten_backward(Builder& b, int i) {
  const Value& x = b.program[b.input_of(i).y];
  const ValueId dx = b.program.alias(b.made(i).dy, "d" + x.name, x.shape, Layout::row_major);
  b.add_gradient(b.node(i).inputs[0], dx, b.made(i).owns_dy);
}

void add_forward(Builder& b, int i) {
  const ValueId left = b.input_of(i, 0).y;
  const Value& v = b.program[left];
  const ValueId right = b.in_layout(b.input_of(i, 1).y, v.layout);
  if (v.shape != b.shape(right))
    fail("plan", "the branches have different shapes", to_string(v.shape), to_string(b.shape(right)));
  const ValueId y = b.program.value(b.node(i).name, b.shape(left), b.program[left].layout);
  const int64_t floats = b.program[y].floats;
  b.made(i).y = y;
  b.program.block("add", {left, right}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().add.forward(block.count() * floats, f.at(left, block), f.at(right, block), f.at(y, block));
  });
}

// Both branches get dy itself, so neither may write to it.
void add_backward(Builder& b, int i) {
  for (int input : b.node(i).inputs) b.add_gradient(input, b.made(i).dy, false);
}

}  // namespace

const OpSteps kInputSteps{input_forward, input_backward};
const OpSteps kFlattenSteps{flatten_forward, flatten_backward};
const OpSteps kAddSteps{add_forward, add_backward};

}  // namespace convcore::plan

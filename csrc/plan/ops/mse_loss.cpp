#include "ops/mse_loss.h"

#include <algorithm>

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

double sum_of_squares(int64_t count, const float* y, const float* target) {
  double total = 0;
  for (int64_t i = 0; i < count; i += kMseShard) {
    double sum;
    current_kernels().mse_loss.shard_sums(std::min(kMseShard, count - i), y + i, target + i, &sum);
    total += sum;
  }
  return total;
}

constexpr char kText[] = "squared error and its gradient";

ValueId in_blocks(Builder& b, ValueId y, ValueId gradient, float factor) {
  const int64_t floats = b.program[y].floats;
  const ValueId losses = b.program.value("loss of an image", {1});
  b.program.block(kText, {y}, {losses, gradient}, [=](const Frame& f, const Block& block) {
    const float one = 1;
    for (int64_t k = 0; k < block.count(); k++) {
      const int64_t n = block.begin + k;
      const float* target = f.input.targets + (f.input.order ? f.input.order[n] : n) * floats;
      const float* output = f.at(y, block) + k * floats;
      f.at(losses, block)[k] = float(sum_of_squares(floats, output, target));
      current_kernels().mse_loss.backward(floats, factor, &one, false, output, target,
                                          f.at(gradient, block) + k * floats);
    }
  });
  return losses;
}

// The loss of every element by itself; the scale of the gradient is that of the mean, where it is one.
ValueId on_device(Builder& b, ValueId y, ValueId gradient) {
  const int64_t floats = b.program[y].floats;
  const ValueId losses = b.program.value("loss of an element", {floats});
  const ValueId targets = b.program.value("targets", {floats});
  b.program.block(kText, {y}, {losses, gradient, targets}, [=](const Frame& f, const Block& block) {
    const int64_t n = block.count();
    float* target = f.at(targets, block);
    const Kernels& kernels = current_kernels();
    kernels.gather_images.from_float({1, 1, floats}, {}, nullptr, f.input.targets, f.input.order, 0, n, target);
    kernels.mse_loss.squares(n * floats, f.at(y, block), target, f.at(losses, block));
    kernels.mse_loss.backward(n * floats, 2, f.input.loss_scale, false, f.at(y, block), target, f.at(gradient, block));
  });
  return losses;
}

// Loss and gradient of each image; the gradient is that of the mean or sum over the batch.
void forward(Builder& b, int i) {
  const ValueId y = b.in_layout(b.input_of(i).y, Layout::row_major);
  const int64_t floats = b.program[y].floats;
  const float factor = float(b.node(i).integer("mean") ? 2.0 / double(b.options.images * floats) : 2.0);
  const ValueId gradient = b.program.value("d" + b.program[y].name, b.shape(y));
  const ValueId losses = b.on_cuda() ? on_device(b, y, gradient) : in_blocks(b, y, gradient, factor);
  b.made(i).y = losses, b.made(i).values = {gradient};
  keep_result(b, b.program.phase_of(losses) + 1, losses, b.options.images * b.program[losses].floats, -1);
  // The gradient of the loss by itself is 1: backward finds it.
  b.made(i).dy = losses;
}

void backward(Builder& b, int i) { b.add_gradient(b.node(i).inputs[0], b.made(i).values[0], true); }

}  // namespace

const OpSteps kMseLossSteps{forward, backward};

}  // namespace convcore::plan

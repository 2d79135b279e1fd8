#include "ops/cross_entropy.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

struct Outputs {
  ValueId losses, right, gradient;
  std::vector<ValueId> all() const { return {losses, right, gradient}; }
};

constexpr char kText[] = "softmax, cross-entropy and its gradient";

int in_blocks(Builder& b, const CrossEntropyParams& params, ValueId logits, const Outputs& out) {
  const int64_t classes = b.shape(logits)[0];
  const BufferId labels = b.program.buffer(Per::thread, 2 * b.options.images);  // int64
  return b.program.block(kText, {logits}, out.all(), [=](const Frame& f, const Block& block) {
    float *hit = f.at(out.right, block), *y = f.at(logits, block);
    float *loss = f.at(out.losses, block), *gradient = f.at(out.gradient, block);
    const CrossEntropyKernels& kernels = current_kernels().cross_entropy;
    const auto number = [&](int64_t k) { return f.input.order ? f.input.order[block.begin + k] : block.begin + k; };
    if (f.input.targets) {
      for (int64_t k = 0; k < block.count(); k++) {
        const float *share = f.input.targets + number(k) * classes, *row = y + k * classes;
        kernels.right_shares(1, classes, row, share, hit + k);
        kernels.forward_shares({1, classes, 1}, params, f.input.loss_scale, row, share, loss + k,
                               gradient + k * classes);
      }
      return;
    }
    int64_t* label = reinterpret_cast<int64_t*>(f.buffer(labels, block.thread));
    for (int64_t k = 0; k < block.count(); k++) label[k] = f.input.labels[number(k)];
    kernels.right(block.count(), classes, params.ignore_index, y, label, hit);
    kernels.forward({block.count(), classes, 1}, params, f.input.loss_scale, y, label, loss, gradient);
  });
}

// The labels come in the order of the batch; shares of classes are gathered, as images are.
int on_device(Builder& b, const CrossEntropyParams& params, ValueId logits, const Outputs& out) {
  const int64_t classes = b.shape(logits)[0];
  const ValueId shares = b.program.value("shares of the classes", {classes});
  std::vector<ValueId> writes = out.all();
  writes.push_back(shares);
  return b.program.block(kText, {logits}, writes, [=](const Frame& f, const Block& block) {
    float *hit = f.at(out.right, block), *y = f.at(logits, block);
    float *loss = f.at(out.losses, block), *gradient = f.at(out.gradient, block);
    const Kernels& kernels = current_kernels();
    const int64_t n = block.count();
    if (!f.input.targets) {
      kernels.cross_entropy.right(n, classes, params.ignore_index, y, f.input.batch_labels, hit);
      kernels.cross_entropy.forward({n, classes, 1}, params, f.input.loss_scale, y, f.input.batch_labels, loss,
                                    gradient);
      return;
    }
    float* target = f.at(shares, block);
    kernels.gather_images.from_float({1, 1, classes}, {}, nullptr, f.input.targets, f.input.order, 0, n, target);
    kernels.cross_entropy.right_shares(n, classes, y, target, hit);
    kernels.cross_entropy.forward_shares({n, classes, 1}, params, f.input.loss_scale, y, target, loss, gradient);
  });
}

// Loss, right answers and gradient of each image; the gradient is that of the mean or sum over the batch. The targets
// are labels, or shares of the classes.
void forward(Builder& b, int i) {
  const ValueId logits = b.input_of(i).y;
  if (b.shape(logits).size() != 1)
    fail("plan", "the loss cannot be planned", "one row of classes per image", to_string(b.shape(logits)));
  const Node& n = b.node(i);
  const int64_t classes = b.shape(logits)[0];
  const CrossEntropyParams params{n.integer("ignore_index"), n.integer("mean") ? Reduction::mean : Reduction::sum,
                                  float(n.number("label_smoothing"))};
  const ValueId losses = b.program.value("loss of an image", {1}), right = b.program.value("right answers", {1});
  const ValueId gradient = b.program.value("d" + b.program[logits].name, {classes});
  b.program.label_classes = classes;
  b.made(i).y = losses, b.made(i).values = {right, gradient};
  const Outputs out{losses, right, gradient};
  const int phase = b.on_cuda() ? on_device(b, params, logits, out) : in_blocks(b, params, logits, out);
  keep_result(b, phase + 1, losses, b.options.images, right);
  // The gradient of the loss by itself is 1: backward finds it.
  b.made(i).dy = losses;
}

void backward(Builder& b, int i) { b.add_gradient(b.node(i).inputs[0], b.made(i).values[1], true); }

}  // namespace

const OpSteps kCrossEntropySteps{forward, backward};

}  // namespace convcore::plan

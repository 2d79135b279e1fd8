#include "ops/cross_entropy.h"

#include <algorithm>

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// np.argmax: the first of the largest, and a NaN is larger than every number.
bool is_right(const float* y, int64_t classes, int64_t label) {
  int64_t best = 0;
  for (int64_t c = 1; c < classes && y[best] == y[best]; c++)
    if (!(y[c] <= y[best])) best = c;
  return best == label;
}

// The class with the largest share, the first of several.
int64_t label_of(const float* shares, int64_t classes) { return std::max_element(shares, shares + classes) - shares; }

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
  const BufferId labels = b.program.buffer(Per::thread, 2 * b.options.images);  // int64
  b.program.label_classes = classes;
  b.made(i).y = losses, b.made(i).values = {right, gradient};
  const int phase = b.program.block(
      "softmax, cross-entropy and its gradient", {logits}, {losses, right, gradient},
      [=](const Frame& f, const Block& block) {
        int64_t* label = reinterpret_cast<int64_t*>(f.buffer(labels, block.thread));
        float *hit = f.at(right, block), *y = f.at(logits, block);
        const CrossEntropyKernels& kernels = current_kernels().cross_entropy;
        if (f.input.targets) {
          for (int64_t k = 0; k < block.count(); k++) {
            const int64_t n = block.begin + k;
            const float* share = f.input.targets + (f.input.order ? f.input.order[n] : n) * classes;
            const float* row = y + k * classes;
            hit[k] = is_right(row, classes, label_of(share, classes)) ? 1.f : 0.f;
            kernels.forward_shares({1, classes, 1}, params, &f.input.loss_scale, row, share, f.at(losses, block) + k,
                                   f.at(gradient, block) + k * classes);
          }
          return;
        }
        for (int64_t k = 0; k < block.count(); k++) {
          const int64_t n = block.begin + k;
          label[k] = f.input.labels[f.input.order ? f.input.order[n] : n];
          hit[k] = label[k] != params.ignore_index && is_right(y + k * classes, classes, label[k]) ? 1.f : 0.f;
        }
        kernels.forward({block.count(), classes, 1}, params, &f.input.loss_scale, y, label, f.at(losses, block),
                        f.at(gradient, block));
      });
  b.program.serial("sum of the losses", {losses, right}, phase + 1, [=](const Frame& f) {
    const float *loss = f.whole(losses), *hit = f.whole(right);
    double total = 0, hits = 0;
    for (int64_t k = 0; k < f.program().images(); k++) total += double(loss[k]), hits += double(hit[k]);
    *f.result = {total, hits};
  });
  // The gradient of the loss by itself is 1: backward finds it.
  b.made(i).dy = losses;
}

void backward(Builder& b, int i) { b.add_gradient(b.node(i).inputs[0], b.made(i).values[1], true); }

}  // namespace

const OpSteps kCrossEntropySteps{forward, backward};

}  // namespace convcore::plan

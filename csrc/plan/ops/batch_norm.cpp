// batch_norm, alone or with what follows it: y = relu(norm(x) + residual).
//
// Statistics are sums over all images, so the forward pass and the backward pass each cross a barrier:
//
//   phase p      block: sums of x           (right after the step that made x, while x is in the cache)
//   phase p + 1  once: mean, scale          block: y, and whatever reads it
//
//   phase q      block: dz = dy where y > 0, and its sums
//   phase q + 1  once: dweight, dbias       block: dx, and whatever reads it
#include "ops/batch_norm.h"

#include <algorithm>

#include "ops/kernels.h"
#include "plan/builder.h"
#include "plan/fused_conv.h"

namespace convcore::plan {
namespace {

enum Parameters { kWeight, kBias, kRunningMean, kRunningVar };

// The input: as it comes, or channels-last on a GPU.
ValueId x_of(Builder& b, int i) { return b.made(i).values[0]; }

BatchNormShape shape_of(Builder& b, int i) {
  const Value& x = b.program[x_of(b, i)];
  const int64_t c = x.shape[0];
  const BatchNormShape s{b.options.images, c, c ? x.floats / c : 0, x.layout};
  if (b.options.training && s.per_channel() == 1)
    fail("batch_norm", "x has too few values per channel", "more than 1 in training (their variance is needed)",
         "1 (x has shape " + to_string(b.batch_shape(x_of(b, i))) + ")");
  return s;
}

BatchNormShape of_block(BatchNormShape s, const Block& block) {
  s.n = block.count();
  return s;
}

float* data(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }

// Sums of a shard: two arrays of C doubles, cleared before its first block.
struct ShardSums {
  BufferId id;
  int64_t c;
  ShardSums(Builder& b, int64_t c) : id(b.program.buffer(Per::shard, 4 * c)), c(c) {}
  ShardSums(BufferId id, int64_t c) : id(id), c(c) {}
  double* of(const Frame& f, int64_t shard) const { return reinterpret_cast<double*>(f.buffer(id, shard)); }
  double* begin(const Frame& f, const Block& block) const {
    double* sums = of(f, block.shard);
    if (block.first) clear_bytes(sums, 2 * c * int64_t(sizeof(double)));
    return sums;
  }
  // Adds the other shards to the first, in order.
  double* total(const Frame& f) const {
    double* sums = of(f, 0);
    for (int64_t shard = 1; shard < f.program().shards(); shard++)
      for (int64_t i = 0; i < 2 * c; i++) sums[i] += of(f, shard)[i];
    return sums;
  }
};

// scale = weight * rstd, shift = bias: what `apply` takes.
void set_affine(const Frame& f, const std::vector<BufferId>& buffers, const float* weight, const float* bias,
                int64_t c) {
  current_kernels().batch_norm.factors(c, f.buffer(buffers[kRstd]), weight, bias, f.buffer(buffers[kScale]),
                                       f.buffer(buffers[kShift]));
}

// What y is made from. The residual part may be another batch norm's, made on the way on a GPU.
Builder::OnLoad parts_of(Builder& b, int i) {
  const auto& buffers = b.made(i).buffers;
  Builder::OnLoad parts;
  parts.x = x_of(b, i), parts.affine = {buffers[kMean], buffers[kScale], buffers[kShift]};
  parts.relu = b.node(i).integer("relu") != 0;
  if (b.node(i).inputs.size() == 1) return parts;
  const int other = b.node(i).inputs[1];
  const Builder::Made& made = b.made(other);
  if (made.write && !made.on_load->relu && made.on_load->residual < 0 && b.consumers_of(other) == 1) {
    parts.residual = made.on_load->x, parts.residual_affine = made.on_load->affine;
    return parts;
  }
  parts.residual = b.in_layout(b.written(other).y, shape_of(b, i).layout);
  return parts;
}

// Emits y = relu(norm(x) + residual), in `phase` or later.
void apply(Builder& b, int i, int phase, const Builder::OnLoad& parts, ValueId y) {
  const BatchNormShape s = shape_of(b, i);
  const bool adds = parts.residual >= 0;
  b.program.block(
      std::string("batch_norm") + (adds ? " + residual" : "") + (parts.relu ? " + relu" : ""), parts.reads(), {y},
      [=](const Frame& f, const Block& block) {
        const BatchNormResidual add{adds ? f.at(parts.residual, block) : nullptr, parts.residual_affine.at(f)};
        current_kernels().batch_norm.apply(of_block(s, block), 0, block.count(), f.at(parts.x, block),
                                           parts.affine.at(f), add, parts.relu, f.at(y, block));
      },
      phase);
}

ValueId output(Builder& b, int i) {
  const Value& x = b.program[x_of(b, i)];
  return b.program.value(b.node(i).name, x.shape, x.layout);
}

int training_statistics(Builder& b, int i) {
  const BatchNormShape s = shape_of(b, i);
  const ValueId x = x_of(b, i);
  const auto buffers = b.made(i).buffers;
  const int weight = b.parameter(i, kWeight), bias = b.parameter(i, kBias);
  const int running_mean = b.parameter(i, kRunningMean), running_var = b.parameter(i, kRunningVar);
  const double momentum = b.node(i).number("momentum"), eps = b.node(i).number("eps");
  const ShardSums sums(b, s.c);
  const int phase = b.program.block("batch_norm sums", {x}, {}, [=](const Frame& f, const Block& block) {
    double* sum = sums.begin(f, block);
    current_kernels().batch_norm.partial(of_block(s, block), 0, block.count(), f.at(x, block), data(f, running_mean),
                                         sum, sum + s.c);
  });
  return b.program.serial("batch_norm statistics", {}, phase + 1, [=](const Frame& f) {
    const double* sum = sums.total(f);
    const float* mean = data(f, running_mean);
    float* pivot = f.buffer(buffers[kPivot]);
    if (mean) copy_floats(pivot, mean, s.c);
    current_kernels().batch_norm.finish(s.c, s.per_channel(), mean ? pivot : nullptr, sum, sum + s.c, momentum, eps,
                                        f.buffer(buffers[kMean]), f.buffer(buffers[kRstd]), data(f, running_mean),
                                        data(f, running_var));
    set_affine(f, buffers, data(f, weight), data(f, bias), s.c);
  });
}

int running_statistics(Builder& b, int i) {
  const int64_t c = shape_of(b, i).c;
  const auto buffers = b.made(i).buffers;
  const int weight = b.parameter(i, kWeight), bias = b.parameter(i, kBias);
  const int running_mean = b.parameter(i, kRunningMean), running_var = b.parameter(i, kRunningVar);
  const double eps = b.node(i).number("eps");
  return b.program.serial("batch_norm statistics", {}, 0, [=](const Frame& f) {
    copy_floats(f.buffer(buffers[kMean]), data(f, running_mean), c);
    current_kernels().batch_norm.reciprocal_std(c, data(f, running_var), eps, f.buffer(buffers[kRstd]));
    set_affine(f, buffers, data(f, weight), data(f, bias), c);
  });
}

// The same sums for a step that makes dy in the phase of `with`.
Builder::GradientSums gradient_sums(Builder& b, int i, ValueId with) {
  const int64_t c = shape_of(b, i).c;
  const ValueId x = x_of(b, i), y = b.node(i).integer("relu") != 0 ? b.recalled(i, with) : -1;
  const BufferId mean = b.made(i).buffers[kMean];
  const ShardSums sums(b.made(i).buffers[kGradientSums], c);
  std::vector<ValueId> reads{x};
  if (y >= 0) reads.push_back(y);
  return {std::move(reads), [=](const Frame& f, const Block& block) {
            double* sum = sums.begin(f, block);
            return ConvGradientSums{f.at(x, block), y < 0 ? nullptr : f.at(y, block), f.buffer(mean), sum, sum + c};
          }};
}

void forward(Builder& b, int i) {
  Builder::Made& made = b.made(i);
  made.values = {b.on_cuda() ? b.in_layout(b.input_of(i).y, Layout::channels_last) : b.input_of(i).y};
  const int64_t c = shape_of(b, i).c;
  const bool training = b.options.training, known = !made.buffers.empty();  // by the convolution before
  for (int k = kMean; !known && k <= kPivot; k++) made.buffers.push_back(b.program.buffer(Per::program, c));
  const int phase = std::max(Builder::kFirstPhase, known      ? b.program.phase_of(x_of(b, i))
                                                   : training ? training_statistics(b, i)
                                                              : running_statistics(b, i));
  const Builder::OnLoad parts = parts_of(b, i);
  const ValueId y = made.y = output(b, i);
  if (training) {
    made.buffers.push_back(ShardSums(b, c).id);
    for (int k = kGradientScale; k <= kSlope; k++) made.buffers.push_back(b.program.buffer(Per::program, c));
  }
  if (training && b.on_cuda()) {
    made.on_load = parts;
    made.write = [&b, i, phase, parts, y] { apply(b, i, phase, parts, y); };
    return;
  }
  apply(b, i, phase, parts, y);
  // Backwards y is made again from x, which is read there anyway, unless it has a residual part: then it is kept. On a
  // GPU it would be a kernel more.
  if (parts.residual < 0 && !b.on_cuda())
    made.recall = [&b, i, parts](ValueId with) {
      const ValueId again = output(b, i);
      apply(b, i, b.program.phase_of(with), parts, again);
      return again;
    };
  if (training) made.gradient_sums = [&b, i](ValueId with) { return gradient_sums(b, i, with); };
}

// Emits dz and its sums. The phase they are complete in is the next one.
int sum_gradient(Builder& b, int i, ValueId dy, ValueId dz) {
  const BatchNormShape s = shape_of(b, i);
  const ValueId x = x_of(b, i);
  const auto buffers = b.made(i).buffers;
  const bool relu = b.node(i).integer("relu") != 0;
  b.written(i);
  const ValueId y = relu ? b.recalled(i, dy) : -1;
  const ShardSums sums(buffers[kGradientSums], s.c);
  std::vector<ValueId> reads{dy, x}, writes;
  if (relu) reads.push_back(y), writes.push_back(dz);
  return b.program.block(relu ? "relu backward and batch_norm sums" : "batch_norm backward sums", reads, writes,
                         [=](const Frame& f, const Block& block) {
                           double* sum = sums.begin(f, block);
                           current_kernels().batch_norm.backward_partial(
                               of_block(s, block), 0, block.count(), f.at(dy, block), f.at(x, block),
                               f.buffer(buffers[kMean]), relu ? f.at(y, block) : nullptr,
                               relu ? f.at(dz, block) : nullptr, sum, sum + s.c);
                         });
}

// Emits what the gradients are made from, once the sums are complete.
int finish_gradient(Builder& b, int i, int phase) {
  const BatchNormShape s = shape_of(b, i);
  const auto buffers = b.made(i).buffers;
  const int weight = b.parameter(i, kWeight), bias = b.parameter(i, kBias);
  const bool trains_weight = b.trains(i, kWeight), trains_bias = b.trains(i, kBias);
  const ShardSums sums(buffers[kGradientSums], s.c);
  const int next = b.program.serial("batch_norm backward statistics", {}, phase, [=](const Frame& f) {
    const double* sum = sums.total(f);
    current_kernels().batch_norm.backward_finish(s.c, s.per_channel(), sum, sum + s.c, f.buffer(buffers[kRstd]),
                                                 data(f, weight), f.buffer(buffers[kGradientScale]),
                                                 f.buffer(buffers[kCenter]), f.buffer(buffers[kSlope]),
                                                 trains_weight ? f.parameters[size_t(weight)].grad : nullptr,
                                                 trains_bias ? f.parameters[size_t(bias)].grad : nullptr);
  });
  if (trains_weight) b.gradient_written(weight, next);
  if (trains_bias) b.gradient_written(bias, next);
  return next;
}

void backward(Builder& b, int i) {
  const BatchNormShape s = shape_of(b, i);
  const ValueId x = x_of(b, i);
  const auto buffers = b.made(i).buffers;
  const bool relu = b.node(i).integer("relu") != 0;

  const ValueId dy = b.gradient(i, s.layout);
  // The step that made dy may have summed it (and masked it) on the way.
  const bool summed = b.made(i).summed >= 0;
  const ValueId dz = relu && !summed ? b.gradient_in_place(i, "dz of " + b.node(i).name) : dy;
  const int phase = summed ? b.made(i).summed : sum_gradient(b, i, dy, dz);
  const int next = summed && b.on_cuda() ? phase : finish_gradient(b, i, phase + 1);
  const BufferId scale = buffers[kGradientScale], center = buffers[kCenter], slope = buffers[kSlope];

  // In a residual network both branches read dz, so it is nobody's to write to.
  if (b.node(i).inputs.size() > 1) b.add_gradient(b.node(i).inputs[1], dz, false);
  Builder::Made& input = b.input_of(i);
  if (!input.needs_gradient) return;
  if (input.statistics_of == i) {  // the convolution makes dx as it loads dz
    input.dy = dz, input.owns_dy = false;
    input.dy_on_load = Builder::GradientOnLoad{dz, x, buffers[kMean], scale, center, slope, next};
    return;
  }
  const ValueId dx = b.program.value("d" + b.program[x].name, b.shape(x), s.layout);
  b.program.block(
      "batch_norm backward", {dz, x}, {dx},
      [=](const Frame& f, const Block& block) {
        const BatchNormInputGradient gradient{f.buffer(buffers[kMean]), f.buffer(scale), f.buffer(center),
                                              f.buffer(slope)};
        current_kernels().batch_norm.backward_apply(of_block(s, block), 0, block.count(), f.at(dz, block),
                                                    f.at(x, block), gradient, f.at(dx, block));
      },
      next);
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kBatchNormSteps{forward, backward};

}  // namespace convcore::plan

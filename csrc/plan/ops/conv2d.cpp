#include "ops/conv2d_algorithm.h"
#include "ops/conv2d_passes.h"
#include "ops/kernels.h"
#include "plan/builder.h"
#include "plan/fused_conv.h"

namespace convcore::plan {
namespace {

constexpr char kOp[] = "conv2d";

Conv2dShape shape_of(Builder& b, int i) {
  const Node& n = b.node(i);
  const ValueId input = b.made(n.inputs[0]).y;  // perhaps not written: its shape is what counts
  if (b.shape(input).size() != 3)
    fail("plan", "conv2d cannot be planned", "images (C, H, W)", to_string(b.shape(input)));
  Conv2dParams p{};
  p.stride = {n.integer("stride", 0), n.integer("stride", 1)};
  p.padding = {n.integer("padding", 0), n.integer("padding", 1), n.integer("padding", 2), n.integer("padding", 3)};
  p.dilation = {n.integer("dilation", 0), n.integer("dilation", 1)};
  p.groups = n.integer("groups");
  if (n.integer("same")) {
    const Shape &x = b.shape(input), &w = b.parameter_shape(i, 0);
    for (size_t axis = 0; axis < 2; axis++) {
      const auto pads = same_padding(x[axis + 1], w[axis + 2], p.stride[axis], p.dilation[axis]);
      p.padding[2 * axis] = pads[0], p.padding[2 * axis + 1] = pads[1];
    }
  }
  return infer_conv2d_shape(kOp, b.batch_shape(input), b.parameter_shape(i, 0), p);
}

Conv2dShape of_block(Conv2dShape s, const Block& block) {
  s.n = block.count();
  return s;
}

double multiply_adds(const Conv2dShape& s) {  // of one image
  return double(s.c_out) * double(s.h_out * s.w_out) * double(s.c_in_per_group()) * double(s.taps());
}

const float* parameter_or_null(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }

using FloatsOf = std::function<const float*(const Frame&)>;

// Where the weight and the bias are: the parameters, or what is left of them with a batch norm folded in:
//
//   w'[k] = w[k] * scale[k],  b'[k] = (b[k] - mean[k]) * scale[k] + shift[k],  scale = weight / sqrt(var + eps)
struct Weights {
  FloatsOf weight, bias;  // bias gives null where there is none
};

enum Parameters { kWeight, kBias, kScale, kShift, kMean, kVar };

Weights weights_of(Builder& b, int i, const Conv2dShape& s) {
  const int weight = b.parameter(i, kWeight), bias = b.parameter(i, kBias);
  if (b.node(i).parameters.size() <= kScale)
    return {[=](const Frame& f) { return f.parameters[size_t(weight)].data; },
            [=](const Frame& f) { return parameter_or_null(f, bias); }};
  const int scale = b.parameter(i, kScale), shift = b.parameter(i, kShift);
  const int mean = b.parameter(i, kMean), var = b.parameter(i, kVar);
  const double eps = b.node(i).number("eps");
  const int64_t terms = s.c_in_per_group() * s.taps();
  const BufferId folded = b.program.buffer(Per::program, s.c_out * terms);
  const BufferId offset = b.program.buffer(Per::program, s.c_out);
  b.program.serial("fold the batch norm into " + b.node(i).name, {}, 0, [=](const Frame& f) {
    current_kernels().batch_norm.fold(s.c_out, terms, f.parameters[size_t(weight)].data, parameter_or_null(f, bias),
                                      parameter_or_null(f, scale), parameter_or_null(f, shift),
                                      f.parameters[size_t(mean)].data, f.parameters[size_t(var)].data, eps,
                                      f.buffer(folded), f.buffer(offset));
  });
  return {[=](const Frame& f) { return f.buffer(folded); }, [=](const Frame& f) { return f.buffer(offset); }};
}

// Prepares the Winograd filters of a pass, once per step.
BufferId winograd_filters(Builder& b, const Conv2dShape& s, int tile, bool backward, const FloatsOf& weight) {
  const auto& kernels = current_kernels().conv2d;
  const BufferId u = b.program.buffer(Per::program, kernels.winograd_filter_floats(s, tile, backward));
  b.prepare("Winograd filters", double(s.c_in * s.c_out) * (tile + 2) * (tile + 2) / 4, [=](const Frame& f) {
    current_kernels().conv2d.winograd_transform_filters(s, tile, backward, weight(f), f.buffer(u));
  });
  return u;
}

// With relu, of a step of its own.
void relu_in_place(Builder& b, int i) {
  const ValueId conv = b.made(i).y;
  const Value& v = b.program[conv];
  const ValueId y = b.program.alias(conv, v.name, v.shape, v.layout);
  const int64_t floats = v.floats;
  b.program.block("relu", {conv}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().activation.forward[int(Activation::relu)](block.count() * floats, {}, f.at(conv, block),
                                                                f.at(y, block));
  });
  b.made(i).y = y;
}

void forward(Builder& b, int i) {
  const Conv2dShape s = shape_of(b, i);
  if (b.node(i).inputs.size() == 1 && fused_conv_forward(b, i, s)) {
    b.count_work(multiply_adds(s) * 3);
    if (b.node(i).integer("relu") != 0) relu_in_place(b, i);
    return;
  }
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::forward, ConvAlgorithm::automatic);
  const ConvForwardLayouts layouts = conv_forward_layouts(algorithm);
  const Weights weights = weights_of(b, i, s);
  const bool relu = b.node(i).integer("relu") != 0, adds = b.node(i).inputs.size() > 1;
  const ValueId x = layouts.x ? b.in_layout(b.input_of(i).y, *layouts.x) : b.input_of(i).y;
  const Layout x_layout = b.program[x].layout;
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, layouts.y);
  b.made(i).y = y;
  b.count_work(multiply_adds(s) * (b.options.training ? 3 : 1));
  const ValueId residual = adds ? b.in_layout(b.input_of(i, 1).y, layouts.y) : -1;
  std::vector<ValueId> reads{x};
  if (adds) reads.push_back(residual);
  const std::string text =
      std::string("conv2d ") + algorithm_name(algorithm) + (adds ? " + residual" : "") + (relu ? " + relu" : "");
  if (const int tile = winograd_tile(algorithm)) {
    const BufferId u = winograd_filters(b, s, tile, false, weights.weight);
    b.program.block(text, reads, {y}, [=](const Frame& f, const Block& block) {
      const ConvEpilogue epilogue{weights.bias(f), adds ? f.at(residual, block) : nullptr, relu};
      current_kernels().conv2d.winograd_convolve(of_block(s, block), tile, false, f.at(x, block), f.buffer(u), epilogue,
                                                 f.at(y, block));
    });
    return;
  }
  const int64_t floats = b.program[y].floats;
  b.program.block(text, reads, {y}, [=](const Frame& f, const Block& block) {
    float* out = f.at(y, block);
    conv_forward(algorithm, of_block(s, block), f.at(x, block), x_layout, weights.weight(f), weights.bias(f), out);
    if (adds) current_kernels().add.forward(block.count() * floats, out, f.at(residual, block), out);
    if (relu) current_kernels().activation.forward[int(Activation::relu)](block.count() * floats, {}, out, out);
  });
}

// Partial gradients per shard in the kernel's own order; a task adds them up.
void sum_winograd_parts(Builder& b, int i, const Conv2dShape& s, ValueId dy, ValueId x) {
  const int weight = b.parameter(i, 0);
  const auto& kernels = current_kernels().conv2d;
  const int64_t kept = kernels.weight_sum_floats(s);
  const BufferId parts = b.program.buffer(Per::shard, kernels.weight_part_floats(s));
  const BufferId sums = b.program.buffer(Per::thread, kept);
  const int phase =
      b.program.block("conv2d backward weight winograd", {dy, x}, {}, [=](const Frame& f, const Block& block) {
        current_kernels().conv2d.winograd_weight_part(of_block(s, block), f.at(dy, block), f.at(x, block),
                                                      kept ? f.buffer(sums, block.thread) : nullptr, block.first,
                                                      block.last, f.buffer(parts, block.shard));
      });
  const int next = b.program.tasks("sum the gradients of " + b.node(i).name, {}, phase + 1, 1,
                                   double(s.c_in * s.c_out) * 9, [=](const Frame& f, int64_t, int) {
                                     current_kernels().conv2d.sum_weight_parts(s, f.buffer(parts), f.shard_stride(),
                                                                               f.program().shards(),
                                                                               f.parameters[size_t(weight)].grad);
                                   });
  b.gradient_written(weight, next + 1);
}

// The gradients of the weight and, where the kernel sums it on the way, of the bias; says whether it does.
bool backward_weight(Builder& b, int i, const Conv2dShape& s) {
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::backward_weight, ConvAlgorithm::automatic);
  const ConvBackwardWeightLayouts layouts = conv_backward_weight_layouts(algorithm, s);
  const ValueId dy = b.in_layout(b.made(i).dy, layouts.dy);
  const ValueId x = b.in_layout(b.recalled(b.node(i).inputs[0], dy), layouts.x);
  if (algorithm == ConvAlgorithm::winograd) {
    sum_winograd_parts(b, i, s, dy, x);
    return false;
  }
  const bool with_bias = layouts.sums_bias && b.trains(i, 1);
  std::vector<int> parameters{b.parameter(i, 0)};
  if (with_bias) parameters.push_back(b.parameter(i, 1));
  b.sum_gradients(std::string("conv2d backward weight ") + algorithm_name(algorithm), parameters, {dy, x},
                  [=](const Frame& f, const Block& block, float* const* sums) {
                    conv_backward_weight(algorithm, of_block(s, block), f.at(dy, block), f.at(x, block), sums[0],
                                         with_bias ? sums[1] : nullptr);
                  });
  return with_bias;
}

void backward_input(Builder& b, int i, const Conv2dShape& s) {
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::backward_input, ConvAlgorithm::automatic);
  const ConvBackwardInputLayouts layouts = conv_backward_input_layouts(algorithm);
  const int weight = b.parameter(i, 0);
  const ValueId dy = layouts.dy ? b.in_layout(b.made(i).dy, *layouts.dy) : b.made(i).dy;
  const Layout dy_layout = b.program[dy].layout;
  const ValueId dx = b.program.value("d" + b.program[b.input_of(i).y].name, {s.c_in, s.h_in, s.w_in}, layouts.dx);
  const std::string text = std::string("conv2d backward input ") + algorithm_name(algorithm);
  if (const int tile = winograd_tile(algorithm)) {
    const BufferId u = winograd_filters(b, s, tile, true, weights_of(b, i, s).weight);
    const int input = b.node(i).inputs[0];
    const ValueId known = b.take_gradient(input, layouts.dx);  // of the other branch, added on the way
    Builder::GradientSums sums;
    if (b.node(i).attributes.count("sums_gradient") && b.program[b.made(input).y].layout == layouts.dx)
      sums = b.made(input).gradient_sums(dy);
    std::vector<ValueId> reads{dy};
    if (known >= 0) reads.push_back(known);
    reads.insert(reads.end(), sums.reads.begin(), sums.reads.end());
    const int phase = b.program.block(
        text + (known >= 0 ? " + gradient of the other branch" : "") + (sums.at ? " + batch_norm sums" : ""), reads,
        {dx}, [=](const Frame& f, const Block& block) {
          const ConvEpilogue epilogue{nullptr, known < 0 ? nullptr : f.at(known, block), false,
                                      sums.at ? sums.at(f, block) : ConvGradientSums{}};
          current_kernels().conv2d.winograd_convolve(of_block(s, block), tile, true, f.at(dy, block), f.buffer(u),
                                                     epilogue, f.at(dx, block));
        });
    if (sums.at) b.made(input).summed = phase;
  } else {
    b.program.block(text, {dy}, {dx}, [=](const Frame& f, const Block& block) {
      conv_backward_input(algorithm, of_block(s, block), f.at(dy, block), dy_layout, f.parameters[size_t(weight)].data,
                          f.at(dx, block));
    });
  }
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

// With relu: dz = dy where y > 0.
void backward_relu(Builder& b, int i) {
  const ValueId y = b.made(i).y, dy = b.gradient(i, b.program[y].layout);
  const ValueId dz = b.gradient_in_place(i, "dz of " + b.node(i).name);
  const int64_t floats = b.program[dz].floats;
  b.program.block("relu backward", {dy, y}, {dz}, [=](const Frame& f, const Block& block) {
    current_kernels().activation.backward[int(Activation::relu)](block.count() * floats, {}, f.at(dy, block),
                                                                 f.at(y, block), f.at(dz, block));
  });
  b.made(i).dy = dz, b.made(i).owns_dy = true;
}

void backward(Builder& b, int i) {
  const Conv2dShape s = shape_of(b, i);
  if (b.node(i).integer("relu") != 0) backward_relu(b, i);
  if (b.made(i).fused) return fused_conv_backward(b, i, s);
  const bool summed = b.trains(i, 0) && backward_weight(b, i, s);
  if (b.trains(i, 1) && !summed) {
    const ValueId dy = b.made(i).dy;
    const Layout layout = b.program[dy].layout;
    b.sum_gradients("conv2d backward bias", {b.parameter(i, 1)}, {dy},
                    [=](const Frame& f, const Block& block, float* const* sums) {
                      current_kernels().conv2d.backward_bias(of_block(s, block), f.at(dy, block), layout, sums[0]);
                    });
  }
  if (b.input_of(i).needs_gradient) backward_input(b, i, s);
}

}  // namespace

const OpSteps kConv2dSteps{forward, backward};

}  // namespace convcore::plan

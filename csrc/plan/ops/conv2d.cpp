#include "cpu/kernels.h"
#include "ops/conv2d_algorithm.h"
#include "ops/conv2d_passes.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

constexpr char kOp[] = "conv2d";

Conv2dShape shape_of(Builder& b, int i) {
  const Node& n = b.node(i);
  if (b.shape(b.input_of(i).y).size() != 3)
    fail("plan", "conv2d cannot be planned", "images (C, H, W)", to_string(b.shape(b.input_of(i).y)));
  Conv2dParams p{};
  p.stride = {n.integer("stride", 0), n.integer("stride", 1)};
  p.padding = {n.integer("padding", 0), n.integer("padding", 1), n.integer("padding", 2), n.integer("padding", 3)};
  p.dilation = {n.integer("dilation", 0), n.integer("dilation", 1)};
  p.groups = n.integer("groups");
  if (n.integer("same")) {
    const Shape &x = b.shape(b.input_of(i).y), &w = b.parameter_shape(i, 0);
    for (size_t axis = 0; axis < 2; axis++) {
      const auto pads = same_padding(x[axis + 1], w[axis + 2], p.stride[axis], p.dilation[axis]);
      p.padding[2 * axis] = pads[0], p.padding[2 * axis + 1] = pads[1];
    }
  }
  return infer_conv2d_shape(kOp, b.batch_shape(b.input_of(i).y), b.parameter_shape(i, 0), p);
}

Conv2dShape of_block(Conv2dShape s, const Block& block) {
  s.n = block.count();
  return s;
}

double multiply_adds(const Conv2dShape& s) {  // of one image
  return double(s.c_out) * double(s.h_out * s.w_out) * double(s.c_in_per_group()) * double(s.taps());
}

const float* parameter_or_null(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }

// Prepares the Winograd filters of a pass, once per step.
BufferId winograd_filters(Builder& b, const Conv2dShape& s, bool backward, int weight) {
  const auto& kernels = cpu::kernels().conv2d;
  const BufferId u = b.program.buffer(Per::program, kernels.winograd_filter_floats(s, backward));
  b.prepare(std::string("Winograd filters of parameter ") + std::to_string(weight), double(s.c_in * s.c_out) * 36 / 4,
            [=](const Frame& f) {
              cpu::kernels().conv2d.winograd_transform_filters(s, backward, f.parameters[size_t(weight)].data,
                                                               f.buffer(u));
            });
  return u;
}

void forward(Builder& b, int i) {
  const Conv2dShape s = shape_of(b, i);
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::forward, ConvAlgorithm::automatic);
  const ConvForwardLayouts layouts = conv_forward_layouts(algorithm);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const ValueId x = layouts.x ? b.in_layout(b.input_of(i).y, *layouts.x) : b.input_of(i).y;
  const Layout x_layout = b.program[x].layout;
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, layouts.y);
  b.made(i).y = y;
  b.count_work(multiply_adds(s) * (b.options.training ? 3 : 1));
  const std::string text = std::string("conv2d ") + algorithm_name(algorithm);
  if (algorithm == ConvAlgorithm::winograd) {
    const BufferId u = winograd_filters(b, s, false, weight);
    b.program.block(text, {x}, {y}, [=](const Frame& f, const Block& block) {
      cpu::kernels().conv2d.winograd_convolve(of_block(s, block), false, f.at(x, block), f.buffer(u),
                                              parameter_or_null(f, bias), nullptr, f.at(y, block));
    });
    return;
  }
  b.program.block(text, {x}, {y}, [=](const Frame& f, const Block& block) {
    conv_forward(algorithm, of_block(s, block), f.at(x, block), x_layout, f.parameters[size_t(weight)].data,
                 parameter_or_null(f, bias), f.at(y, block));
  });
}

// Partial gradients per shard in the kernel's own order; a task adds them up.
void sum_winograd_parts(Builder& b, int i, const Conv2dShape& s, ValueId dy, ValueId x) {
  const int weight = b.parameter(i, 0);
  const BufferId parts = b.program.buffer(Per::shard, cpu::kernels().conv2d.weight_part_floats(s));
  const int phase = b.program.block("conv2d backward weight winograd", {dy, x}, {},
                                    [=](const Frame& f, const Block& block) {
                                      cpu::kernels().conv2d.winograd_weight_part(
                                          of_block(s, block), f.at(dy, block), f.at(x, block),
                                          f.buffer(parts, block.shard), block.first);
                                    });
  const int next = b.program.tasks(
      "sum the gradients of parameter " + std::to_string(weight), {}, phase + 1, 1, double(s.c_in * s.c_out) * 9,
      [=](const Frame& f, int64_t, int) {
        cpu::kernels().conv2d.sum_weight_parts(s, f.buffer(parts), f.shard_stride(), f.program().shards(),
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
  if (algorithm == ConvAlgorithm::winograd) {
    const BufferId u = winograd_filters(b, s, true, weight);
    const ValueId known = b.take_gradient(b.node(i).inputs[0], layouts.dx);  // of the other branch, added on the way
    std::vector<ValueId> reads{dy};
    if (known >= 0) reads.push_back(known);
    b.program.block(text + (known >= 0 ? " + gradient of the other branch" : ""), reads, {dx},
                    [=](const Frame& f, const Block& block) {
                      cpu::kernels().conv2d.winograd_convolve(of_block(s, block), true, f.at(dy, block), f.buffer(u),
                                                              nullptr, known < 0 ? nullptr : f.at(known, block),
                                                              f.at(dx, block));
                    });
  } else {
    b.program.block(text, {dy}, {dx}, [=](const Frame& f, const Block& block) {
      conv_backward_input(algorithm, of_block(s, block), f.at(dy, block), dy_layout, f.parameters[size_t(weight)].data,
                          f.at(dx, block));
    });
  }
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

void backward(Builder& b, int i) {
  const Conv2dShape s = shape_of(b, i);
  const bool summed = b.trains(i, 0) && backward_weight(b, i, s);
  if (b.trains(i, 1) && !summed) {
    const ValueId dy = b.made(i).dy;
    const Layout layout = b.program[dy].layout;
    b.sum_gradients("conv2d backward bias", {b.parameter(i, 1)}, {dy},
                    [=](const Frame& f, const Block& block, float* const* sums) {
                      cpu::kernels().conv2d.backward_bias(of_block(s, block), f.at(dy, block), layout, sums[0]);
                    });
  }
  if (b.input_of(i).needs_gradient) backward_input(b, i, s);
}

}  // namespace

const OpSteps kConv2dSteps{forward, backward};

}  // namespace convcore::plan

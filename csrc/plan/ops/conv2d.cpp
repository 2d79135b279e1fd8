#include "cpu/kernels.h"
#include "ops/conv2d_algorithm.h"
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

// The layout that an algorithm reads and writes.
Layout layout_of(ConvAlgorithm algorithm) {
  return algorithm == ConvAlgorithm::planar ? Layout::row_major : Layout::channels_last;
}

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
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  ValueId x = b.input_of(i).y;
  if (algorithm != ConvAlgorithm::direct) x = b.in_layout(x, layout_of(algorithm));
  const Layout x_layout = b.program[x].layout;
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, layout_of(algorithm));
  b.made(i).y = y;
  b.count_work(multiply_adds(s) * (b.options.training ? 3 : 1));
  const std::string text = std::string("conv2d ") + algorithm_name(algorithm);
  if (algorithm == ConvAlgorithm::winograd) {
    const BufferId u = winograd_filters(b, s, false, weight);
    b.program.block(
        text, {x}, {y},
        [=](const Frame& f, const Block& block) {
          cpu::kernels().conv2d.winograd_convolve(of_block(s, block), false, f.at(x, block), f.buffer(u),
                                                  parameter_or_null(f, bias), f.at(y, block));
        },
        Builder::kFirstPhase);
    return;
  }
  b.program.block(text, {x}, {y}, [=](const Frame& f, const Block& block) {
    const auto& kernels = cpu::kernels().conv2d;
    const float *w = f.parameters[size_t(weight)].data, *bias_data = parameter_or_null(f, bias);
    if (algorithm == ConvAlgorithm::direct)
      kernels.direct_forward(of_block(s, block), f.at(x, block), x_layout, w, bias_data, f.at(y, block));
    else
      kernels.planar_forward(of_block(s, block), f.at(x, block), w, bias_data, f.at(y, block));
  });
}

void backward_weight(Builder& b, int i, const Conv2dShape& s) {
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::backward_weight, ConvAlgorithm::automatic);
  const Layout layout = layout_of(algorithm);
  const ValueId dy = b.in_layout(b.made(i).dy, layout);
  const ValueId x = b.in_layout(b.recalled(b.node(i).inputs[0], dy), layout);
  b.sum_gradient(std::string("conv2d backward weight ") + algorithm_name(algorithm), b.parameter(i, 0), {dy, x},
                 [=](const Frame& f, const Block& block, float* dw) {
                   const auto& kernels = cpu::kernels().conv2d;
                   const auto kernel = algorithm == ConvAlgorithm::planar   ? kernels.planar_backward_weight
                                       : algorithm == ConvAlgorithm::direct ? kernels.direct_backward_weight
                                                                            : kernels.winograd_backward_weight;
                   kernel(of_block(s, block), f.at(dy, block), f.at(x, block), dw);
                 });
}

void backward_input(Builder& b, int i, const Conv2dShape& s) {
  const ConvAlgorithm algorithm = choose_algorithm(kOp, s, ConvPass::backward_input, ConvAlgorithm::automatic);
  const int weight = b.parameter(i, 0);
  ValueId dy = b.made(i).dy;
  if (algorithm != ConvAlgorithm::direct) dy = b.in_layout(dy, layout_of(algorithm));
  const Layout dy_layout = b.program[dy].layout;
  const ValueId dx =
      b.program.value("d" + b.program[b.input_of(i).y].name, {s.c_in, s.h_in, s.w_in}, layout_of(algorithm));
  const std::string text = std::string("conv2d backward input ") + algorithm_name(algorithm);
  if (algorithm == ConvAlgorithm::winograd) {
    const BufferId u = winograd_filters(b, s, true, weight);
    b.program.block(text, {dy}, {dx}, [=](const Frame& f, const Block& block) {
      cpu::kernels().conv2d.winograd_convolve(of_block(s, block), true, f.at(dy, block), f.buffer(u), nullptr,
                                              f.at(dx, block));
    });
  } else {
    b.program.block(text, {dy}, {dx}, [=](const Frame& f, const Block& block) {
      const auto& kernels = cpu::kernels().conv2d;
      const float* w = f.parameters[size_t(weight)].data;
      if (algorithm == ConvAlgorithm::direct)
        kernels.direct_backward_input(of_block(s, block), f.at(dy, block), dy_layout, w, f.at(dx, block));
      else
        kernels.planar_backward_input(of_block(s, block), f.at(dy, block), w, f.at(dx, block));
    });
  }
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

void backward(Builder& b, int i) {
  const Conv2dShape s = shape_of(b, i);
  if (b.trains(i, 0)) backward_weight(b, i, s);
  if (b.trains(i, 1)) {
    const ValueId dy = b.made(i).dy;
    const Layout layout = b.program[dy].layout;
    b.sum_gradient("conv2d backward bias", b.parameter(i, 1), {dy},
                   [=](const Frame& f, const Block& block, float* db) {
                     cpu::kernels().conv2d.backward_bias(of_block(s, block), f.at(dy, block), layout, db);
                   });
  }
  if (b.input_of(i).needs_gradient) backward_input(b, i, s);
}

}  // namespace

const OpSteps kConv2dSteps{forward, backward};

}  // namespace convcore::plan

// subsampling2d: in the layout that comes. The sums of the windows are kept for the gradient of the coefficients.
#include "ops/subsampling2d.h"

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

AvgPool2dShape shape_of(Builder& b, int i) {
  const Node& n = b.node(i);
  if (b.shape(b.input_of(i).y).size() != 3)
    fail("plan", "subsampling2d cannot be planned", "images (C, H, W)", to_string(b.shape(b.input_of(i).y)));
  const PoolWindows windows{{n.integer("kernel_size", 0), n.integer("stride", 0)},
                            {n.integer("kernel_size", 1), n.integer("stride", 1)}};
  return subsampling2d_windows(b.batch_shape(b.input_of(i).y), windows);
}

// What the kernels take for a block of images of `channels` channels.
AvgPool2dShape of_block(AvgPool2dShape s, int64_t channels, const Block& block) {
  s.pool.planes = block.count() * channels;
  return s;
}

ChannelsShape outputs_of(const AvgPool2dShape& s, int64_t channels, Layout layout, const Block& block) {
  return {block.count(), channels, s.pool.h_out * s.pool.w_out, layout};
}

void forward(Builder& b, int i) {
  const AvgPool2dShape s = shape_of(b, i);
  const ValueId x = b.input_of(i).y;
  const Layout layout = b.program[x].layout;
  const int64_t channels = b.shape(x)[0];
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const ValueId sums = b.program.value(b.node(i).name + " sums", {channels, s.pool.h_out, s.pool.w_out}, layout);
  const ValueId y = b.program.value(b.node(i).name, b.shape(sums), layout);
  b.made(i).y = y, b.made(i).values = {sums};
  b.program.block("sums of windows", {x}, {sums}, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().avg_pool2d;
    if (layout == Layout::channels_last)
      kernels.forward_channels_last(of_block(s, channels, block), channels, f.at(x, block), f.at(sums, block));
    else
      kernels.forward(of_block(s, channels, block), f.at(x, block), f.at(sums, block));
  });
  b.program.block("subsampling2d", {sums}, {y}, [=](const Frame& f, const Block& block) {
    current_kernels().subsampling2d.scale(outputs_of(s, channels, layout, block), f.at(sums, block),
                                          f.parameters[size_t(weight)].data,
                                          bias < 0 ? nullptr : f.parameters[size_t(bias)].data, f.at(y, block));
  });
}

void backward_parameters(Builder& b, int i, const AvgPool2dShape& s, ValueId dy) {
  const bool with_weight = b.trains(i, 0), with_bias = b.trains(i, 1);
  if (!with_weight && !with_bias) return;
  const int64_t channels = b.shape(dy)[0];
  const Layout layout = b.program[dy].layout;
  const ValueId sums = b.made(i).values[0];
  std::vector<int> parameters;
  if (with_weight) parameters.push_back(b.parameter(i, 0));
  if (with_bias) parameters.push_back(b.parameter(i, 1));
  b.sum_gradients("subsampling2d backward weight", parameters, {dy, sums},
                  [=](const Frame& f, const Block& block, float* const* totals) {
                    current_kernels().subsampling2d.sums(outputs_of(s, channels, layout, block), f.at(dy, block),
                                                         f.at(sums, block), with_weight ? totals[0] : nullptr,
                                                         with_bias ? totals[with_weight] : nullptr);
                  });
}

void backward(Builder& b, int i) {
  const AvgPool2dShape s = shape_of(b, i);
  const Value x = b.program[b.input_of(i).y];
  const Layout layout = x.layout;
  const int64_t channels = x.shape[0];
  const int weight = b.parameter(i, 0);
  const ValueId dy = b.gradient(i, layout);
  backward_parameters(b, i, s, dy);
  if (!b.input_of(i).needs_gradient) return;
  const ValueId ds = b.gradient_in_place(i, "d" + b.node(i).name + " sums");
  const ValueId dx = b.program.value("d" + x.name, b.shape(b.input_of(i).y), layout);
  b.program.block("subsampling2d backward", {dy}, {ds}, [=](const Frame& f, const Block& block) {
    current_kernels().subsampling2d.scale(outputs_of(s, channels, layout, block), f.at(dy, block),
                                          f.parameters[size_t(weight)].data, nullptr, f.at(ds, block));
  });
  b.program.block("sums of windows backward", {ds}, {dx}, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().avg_pool2d;
    if (layout == Layout::channels_last)
      kernels.backward_channels_last(of_block(s, channels, block), channels, f.at(ds, block), f.at(dx, block));
    else
      kernels.backward(of_block(s, channels, block), f.at(ds, block), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kSubsampling2dSteps{forward, backward};

}  // namespace convcore::plan

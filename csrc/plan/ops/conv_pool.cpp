#include "ops/conv_pool.h"

#include <algorithm>

#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

// The order of memory that the node after this one reads: flatten wants rows, another conv_pool what its shape says.
Layout y_layout(Builder& b, int i) {
  if (b.on_cuda()) return Layout::channels_last;
  const int next = b.consumer_of(i);
  if (next < 0 || b.node(next).op == "flatten") return Layout::row_major;
  if (b.node(next).op == "conv_pool") {
    ConvPoolShape s{};
    s.c_out = b.parameter_shape(next, 0)[0];
    return conv_pool_x_layout(s);
  }
  return b.parameter_shape(i, 0)[0] < kConvPoolFewChannels ? Layout::row_major : Layout::channels_last;
}

ConvPoolShape shape_of(Builder& b, int i) {
  const Shape &x = b.shape(b.input_of(i).y), &w = b.parameter_shape(i, 0);
  const Node& n = b.node(i);
  if (x.size() != 3) fail("plan", "conv2d cannot be planned", "images (C, H, W)", to_string(x));
  std::array<int64_t, 4> padding{n.integer("padding", 0), n.integer("padding", 1), n.integer("padding", 2),
                                 n.integer("padding", 3)};
  if (n.integer("same")) {
    const auto h = same_padding(x[1], w[2], 1, 1), v = same_padding(x[2], w[3], 1, 1);
    padding = {h[0], h[1], v[0], v[1]};
  }
  return infer_conv_pool_shape("conv2d", b.batch_shape(b.input_of(i).y), w, padding, y_layout(b, i));
}

ConvPoolShape of_block(ConvPoolShape s, const Block& block) {
  s.n = block.count();
  return s;
}

const ConvPoolKernels& kernels() { return current_kernels().conv_pool; }

const float* parameter_or_null(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }

enum Buffers { kPacked, kWorkspace };

void pack(const Frame& f, const ConvPoolShape& s, int weight, int bias, BufferId packed) {
  kernels().pack(s, f.parameters[size_t(weight)].data, parameter_or_null(f, bias), f.buffer(packed));
}

// On a GPU: the whole batch in one call each way.
void forward_on_device(Builder& b, int i) {
  const ConvPoolShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const BufferId workspace = b.program.buffer(Per::program, kernels().batch_workspace_floats(s));
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::channels_last);
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, Layout::channels_last);
  constexpr int64_t kBytes = sizeof(float);
  const int64_t mask_floats = (s.h_out * s.w_out * s.c_out + kBytes - 1) / kBytes;
  const ValueId mask = b.program.value("winners of " + b.node(i).name, {mask_floats});
  b.made(i).y = y, b.made(i).values = {mask}, b.made(i).buffers = {workspace};
  b.count_work(double(s.c_in * s.kh * s.kw) * double(s.c_out * s.h_conv * s.w_conv) * (b.options.training ? 3 : 1));
  b.program.block("conv2d + relu + max_pool2d", {x}, {y, mask}, [=](const Frame& f, const Block& all) {
    kernels().batch_forward(of_block(s, all), f.at(x, all), f.parameters[size_t(weight)].data,
                            parameter_or_null(f, bias), f.at(y, all), f.at(mask, all), f.buffer(workspace));
  });
}

void backward_on_device(Builder& b, int i) {
  const ConvPoolShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const BufferId workspace = b.made(i).buffers[0];
  const ValueId dy = b.gradient(i, Layout::channels_last), mask = b.made(i).values[0];
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::channels_last);
  const bool needs_dx = b.input_of(i).needs_gradient, trains_weight = b.trains(i, 0), trains_bias = b.trains(i, 1);
  ValueId dx = -1;
  std::vector<ValueId> writes;
  if (needs_dx) {
    dx = b.program.value("d" + b.program[b.input_of(i).y].name, {s.c_in, s.h_in, s.w_in}, Layout::channels_last);
    writes.push_back(dx);
  }
  const int phase = b.program.block(
      "conv2d + relu + max_pool2d backward", {dy, mask, x}, writes, [=](const Frame& f, const Block& all) {
        kernels().batch_backward(of_block(s, all), f.at(dy, all), f.at(mask, all), f.at(x, all),
                                 f.parameters[size_t(weight)].data, needs_dx ? f.at(dx, all) : nullptr,
                                 trains_weight ? f.parameters[size_t(weight)].grad : nullptr,
                                 trains_bias ? f.parameters[size_t(bias)].grad : nullptr, f.buffer(workspace));
      });
  if (trains_weight) b.gradient_written(weight, phase + 1);
  if (trains_bias) b.gradient_written(bias, phase + 1);
  if (needs_dx) b.add_gradient(b.node(i).inputs[0], dx, true);
}

void forward(Builder& b, int i) {
  if (b.on_cuda()) return forward_on_device(b, i);
  const ConvPoolShape s = shape_of(b, i);
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const BufferId packed = b.program.buffer(Per::program, kernels().packed_floats(s));
  const BufferId workspace = b.program.buffer(Per::thread, kernels().workspace_floats(s));
  b.made(i).buffers = {packed, workspace};
  b.count_work(double(s.c_in * s.kh * s.kw) * double(s.c_out * s.h_conv * s.w_conv) * (b.options.training ? 3 : 1));
  b.prepare(
      "pack " + b.node(i).name, double(s.c_out * s.c_in * s.kh * s.kw) / 4,
      [=](const Frame& f) { pack(f, s, weight, bias, packed); },
      b.updates_at_once(i) || !(b.trains(i, 0) || b.trains(i, 1)));
  const ValueId x = b.in_layout(b.input_of(i).y, conv_pool_x_layout(s));
  const ValueId y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, s.y_layout);
  constexpr int64_t kLine = int64_t(kAlignment);  // the mask of each image begins a cache line
  const int64_t lines = (kernels().mask_bytes(s) + kLine - 1) / kLine;
  const ValueId mask = b.program.value("winners of " + b.node(i).name, {lines * kLine / 4});
  b.made(i).y = y, b.made(i).values = {mask};
  b.program.block("conv2d + relu + max_pool2d", {x}, {y, mask}, [=](const Frame& f, const Block& block) {
    kernels().forward(of_block(s, block), f.at(x, block), f.buffer(packed), f.at(y, block), f.at(mask, block),
                      f.buffer(workspace, block.thread));
  });
}

// Adds up the shards and, where that may be done at once, brings the parameters up to date and packs them for the next
// step.
void train(Builder& b, int i, const ConvPoolShape& s, BufferId gradients, int after) {
  const int weight = b.parameter(i, 0), bias = b.parameter(i, 1);
  const BufferId packed = b.made(i).buffers[kPacked];
  const int64_t weights = s.c_out * s.c_in * s.kh * s.kw;
  const BufferId unused = b.program.buffer(Per::program, weights + s.c_out);  // for what is not trained
  const bool trains_weight = b.trains(i, 0), trains_bias = b.trains(i, 1), update = b.updates_at_once(i);
  const int weight_group = b.group_of(weight), bias_group = bias < 0 ? -1 : b.group_of(bias);
  const int phase =
      b.program.tasks("sum the gradients of " + b.node(i).name + (update ? ", update and pack" : ""), {}, after, 1,
                      double(4 * kernels().gradient_floats(s)), [=](const Frame& f, int64_t, int) {
                        constexpr int64_t kMost = 64;  // shards
                        const float* shards[kMost];
                        const int64_t count = f.program().shards();
                        for (int64_t k = 0; k < count; k++) shards[k] = f.buffer(gradients, k);
                        float* dw = trains_weight ? f.parameters[size_t(weight)].grad : f.buffer(unused);
                        float* db = trains_bias ? f.parameters[size_t(bias)].grad : f.buffer(unused) + weights;
                        kernels().sum_gradients(of_block(s, {}), shards, count, dw, db);
                        if (!update) return;
                        if (trains_weight) f.update(weight_group, f.parameters[size_t(weight)], 0, weights);
                        if (trains_bias) f.update(bias_group, f.parameters[size_t(bias)], 0, s.c_out);
                        pack(f, s, weight, bias, packed);
                      });
  if (!update && trains_weight) b.gradient_written(weight, phase + 1);
  if (!update && trains_bias) b.gradient_written(bias, phase + 1);
}

void backward(Builder& b, int i) {
  if (b.on_cuda()) return backward_on_device(b, i);
  const ConvPoolShape s = shape_of(b, i);
  const BufferId packed = b.made(i).buffers[kPacked], workspace = b.made(i).buffers[kWorkspace];
  const ValueId dy = b.gradient(i, s.y_layout), mask = b.made(i).values[0];
  const ValueId x = b.in_layout(b.recalled(b.node(i).inputs[0], dy), conv_pool_x_layout(s));
  const bool needs_dx = b.input_of(i).needs_gradient;
  const ValueId dx =
      needs_dx ? b.program.value("d" + b.program[b.input_of(i).y].name, {s.c_in, s.h_in, s.w_in}, conv_pool_x_layout(s))
               : -1;
  const int64_t floats = kernels().gradient_floats(s);
  const BufferId gradients = b.program.buffer(Per::shard, floats);
  std::vector<ValueId> writes;
  if (needs_dx) writes.push_back(dx);
  const int phase = b.program.block(
      "conv2d + relu + max_pool2d backward", {dy, mask, x}, writes, [=](const Frame& f, const Block& block) {
        float* gradient = f.buffer(gradients, block.shard);
        if (block.first) std::fill(gradient, gradient + floats, 0.f);
        kernels().backward(of_block(s, block), f.at(dy, block), f.at(mask, block), f.at(x, block), f.buffer(packed),
                           needs_dx ? f.at(dx, block) : nullptr, gradient, f.buffer(workspace, block.thread));
      });
  if (b.trains(i, 0) || b.trains(i, 1)) train(b, i, s, gradients, phase + 1);
  if (needs_dx) b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kConvPoolSteps{forward, backward};

}  // namespace convcore::plan

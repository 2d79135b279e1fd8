// max_pool2d, avg_pool2d, adaptive_avg_pool2d in the layout that comes; stochastic_pool2d.
#include "ops/kernels.h"
#include "plan/builder.h"

namespace convcore::plan {
namespace {

PoolWindows windows_of(const Node& n) {
  return {{n.integer("kernel_size", 0), n.integer("stride", 0), n.integer("padding", 0), n.integer("padding", 0),
           n.integer("dilation", 0)},
          {n.integer("kernel_size", 1), n.integer("stride", 1), n.integer("padding", 1), n.integer("padding", 1),
           n.integer("dilation", 1)}};
}

// What the three share: shapes, layout, and the shape struct of one block.
struct Pooled {
  ValueId x;
  Layout layout;
  int64_t channels;
  explicit Pooled(Builder& b, int i) : x(b.input_of(i).y), layout(b.program[x].layout), channels(0) {
    if (b.shape(x).size() != 3) fail("plan", "pooling cannot be planned", "images (C, H, W)", to_string(b.shape(x)));
    channels = b.shape(x)[0];
  }
  bool last() const { return layout == Layout::channels_last; }
};

// ---- max ----------------------------------------------------------------------------------------------------------

Pool2dShape max_shape(Builder& b, int i) {
  return infer_pool2d_shape("max_pool2d", b.batch_shape(b.input_of(i).y), windows_of(b.node(i)),
                            b.node(i).integer("ceil_mode") != 0);
}

Pool2dShape of_block(Pool2dShape s, int64_t channels, const Block& block) {
  s.planes = block.count() * channels;
  return s;
}

void max_forward(Builder& b, int i) {
  const Pooled p(b, i);
  const Pool2dShape s = max_shape(b, i);
  const ValueId x = p.x;
  const ValueId y = b.program.value(b.node(i).name, {p.channels, s.h_out, s.w_out}, p.layout);
  std::vector<ValueId> writes{y};
  const bool keep = b.options.training && b.made(i).needs_gradient;
  const ValueId indices = keep ? b.program.value(b.node(i).name + " arg-max", b.shape(y), p.layout) : -1;
  if (keep) writes.push_back(indices);
  b.made(i).y = y, b.made(i).values = {indices};
  b.program.block("max_pool2d", {x}, writes, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().max_pool2d;
    int32_t* at = keep ? reinterpret_cast<int32_t*>(f.at(indices, block)) : nullptr;
    if (p.last())
      kernels.forward_channels_last(of_block(s, p.channels, block), p.channels, f.at(x, block), f.at(y, block), at);
    else
      kernels.forward(of_block(s, p.channels, block), f.at(x, block), f.at(y, block), at);
  });
}

void max_backward(Builder& b, int i) {
  const Pooled p(b, i);
  const Pool2dShape s = max_shape(b, i);
  const ValueId dy = b.gradient(i, p.layout), indices = b.made(i).values[0];
  const ValueId dx = b.program.value("d" + b.program[p.x].name, b.shape(p.x), p.layout);
  b.program.block("max_pool2d backward", {dy, indices}, {dx}, [=](const Frame& f, const Block& block) {
    const auto& kernels = current_kernels().max_pool2d;
    const int32_t* at = reinterpret_cast<const int32_t*>(f.at(indices, block));
    if (p.last())
      kernels.backward_channels_last(of_block(s, p.channels, block), p.channels, f.at(dy, block), at, f.at(dx, block));
    else
      kernels.backward(of_block(s, p.channels, block), f.at(dy, block), at, f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

// ---- average ------------------------------------------------------------------------------------------------------

AvgPool2dShape avg_shape(Builder& b, int i) {
  const Node& n = b.node(i);
  return {infer_pool2d_shape("avg_pool2d", b.batch_shape(b.input_of(i).y), windows_of(n), n.integer("ceil_mode") != 0),
          n.integer("count_include_pad") != 0, n.integer("divisor_override")};
}

AvgPool2dShape of_block(AvgPool2dShape s, int64_t channels, const Block& block) {
  s.pool = of_block(s.pool, channels, block);
  return s;
}

AdaptiveAvgPool2dShape adaptive_shape(Builder& b, int i) {
  const Shape& x = b.shape(b.input_of(i).y);
  const auto size = [&](size_t axis) {
    const int64_t wanted = b.node(i).integer("output_size", axis);
    return wanted < 0 ? x[axis + 1] : wanted;
  };
  return {0, x[1], x[2], size(0), size(1)};
}

AdaptiveAvgPool2dShape of_block(AdaptiveAvgPool2dShape s, int64_t channels, const Block& block) {
  s.planes = block.count() * channels;
  return s;
}

int64_t h_out(const AvgPool2dShape& s) { return s.pool.h_out; }
int64_t w_out(const AvgPool2dShape& s) { return s.pool.w_out; }
int64_t h_out(const AdaptiveAvgPool2dShape& s) { return s.h_out; }
int64_t w_out(const AdaptiveAvgPool2dShape& s) { return s.w_out; }

template <typename S, typename Kernels>
void average_forward(Builder& b, int i, const S& s, const Kernels& kernels, const char* text) {
  const Pooled p(b, i);
  const ValueId x = p.x, y = b.program.value(b.node(i).name, {p.channels, h_out(s), w_out(s)}, p.layout);
  b.made(i).y = y;
  b.program.block(text, {x}, {y}, [=, &kernels](const Frame& f, const Block& block) {
    if (p.last())
      kernels.forward_channels_last(of_block(s, p.channels, block), p.channels, f.at(x, block), f.at(y, block));
    else
      kernels.forward(of_block(s, p.channels, block), f.at(x, block), f.at(y, block));
  });
}

template <typename S, typename Kernels>
void average_backward(Builder& b, int i, const S& s, const Kernels& kernels, const char* text) {
  const Pooled p(b, i);
  const ValueId dy = b.gradient(i, p.layout);
  const ValueId dx = b.program.value("d" + b.program[p.x].name, b.shape(p.x), p.layout);
  b.program.block(text, {dy}, {dx}, [=, &kernels](const Frame& f, const Block& block) {
    if (p.last())
      kernels.backward_channels_last(of_block(s, p.channels, block), p.channels, f.at(dy, block), f.at(dx, block));
    else
      kernels.backward(of_block(s, p.channels, block), f.at(dy, block), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

// ---- stochastic: in row-major order
// -----------------------------------------------------------------------------------

Pool2dShape stochastic_shape(Builder& b, int i) {
  return infer_stochastic_pool2d_shape("stochastic_pool2d", b.batch_shape(b.input_of(i).y), windows_of(b.node(i)));
}

void stochastic_forward(Builder& b, int i) {
  const int64_t channels = Pooled(b, i).channels, number = b.node(i).integer("number");
  const Pool2dShape s = stochastic_shape(b, i);
  const ValueId x = b.in_layout(b.input_of(i).y, Layout::row_major);
  const ValueId y = b.program.value(b.node(i).name, {channels, s.h_out, s.w_out});
  b.made(i).y = y;
  if (!b.options.training) {
    b.program.block("stochastic_pool2d mean", {x}, {y}, [=](const Frame& f, const Block& block) {
      current_kernels().stochastic_pool2d.mean(of_block(s, channels, block), f.at(x, block), f.at(y, block));
    });
    return;
  }
  const ValueId indices = b.program.value(b.node(i).name + " drawn", b.shape(y));
  b.made(i).values = {indices};
  b.program.block("stochastic_pool2d", {x}, {y, indices}, [=](const Frame& f, const Block& block) {
    current_kernels().stochastic_pool2d.draw(of_block(s, channels, block), f.input.dropout_keys + number,
                                             block.begin * channels, f.at(x, block), f.at(y, block),
                                             reinterpret_cast<int32_t*>(f.at(indices, block)));
  });
}

void stochastic_backward(Builder& b, int i) {
  const Pool2dShape s = stochastic_shape(b, i);
  const ValueId x = b.input_of(i).y, dy = b.gradient(i, Layout::row_major), indices = b.made(i).values[0];
  const int64_t channels = b.shape(x)[0];
  const ValueId dx = b.program.value("d" + b.program[x].name, b.shape(x));
  b.program.block("stochastic_pool2d backward", {dy, indices}, {dx}, [=](const Frame& f, const Block& block) {
    current_kernels().max_pool2d.backward(of_block(s, channels, block), f.at(dy, block),
                                          reinterpret_cast<const int32_t*>(f.at(indices, block)), f.at(dx, block));
  });
  b.add_gradient(b.node(i).inputs[0], dx, true);
}

}  // namespace

const OpSteps kStochasticPoolSteps{stochastic_forward, stochastic_backward};
const OpSteps kMaxPoolSteps{max_forward, max_backward};
const OpSteps kAvgPoolSteps{
    [](Builder& b, int i) { average_forward(b, i, avg_shape(b, i), current_kernels().avg_pool2d, "avg_pool2d"); },
    [](Builder& b, int i) {
      average_backward(b, i, avg_shape(b, i), current_kernels().avg_pool2d, "avg_pool2d backward");
    }};
const OpSteps kAdaptiveAvgPoolSteps{
    [](Builder& b, int i) {
      average_forward(b, i, adaptive_shape(b, i), current_kernels().adaptive_avg_pool2d, "adaptive_avg_pool2d");
    },
    [](Builder& b, int i) {
      average_backward(b, i, adaptive_shape(b, i), current_kernels().adaptive_avg_pool2d,
                       "adaptive_avg_pool2d backward");
    }};

}  // namespace convcore::plan

#include "plan/fused_conv.h"

#include "ops/kernels.h"

namespace convcore::plan {
namespace {

enum NormParameters { kWeight, kBias, kRunningMean, kRunningVar };

float* data(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].data; }
float* gradient(const Frame& f, int p) { return p < 0 ? nullptr : f.parameters[size_t(p)].grad; }

BufferId counter(Builder& b) { return b.program.buffer(Per::program, 1); }
unsigned* arrivals(const Frame& f, BufferId id) { return reinterpret_cast<unsigned*>(f.buffer(id)); }

// The batch norm whose statistics this convolution can make: the only reader of its output. -1: there is none.
int norm_after(Builder& b, int i) {
  const int next = b.consumer_of(i);
  if (next < 0 || b.consumers_of(i) != 1 || b.node(next).op != "batch_norm" || b.node(next).inputs[0] != i) return -1;
  // The gradient of a bias would need dx in memory.
  return b.trains(i, 1) ? -1 : next;
}

using StatisticsOf = std::function<FusedStatistics(const Frame&)>;

// What the step of the convolution is told about the batch norm, whose buffers it makes.
StatisticsOf statistics_of(Builder& b, int norm) {
  if (norm < 0) return [](const Frame&) { return FusedStatistics{}; };
  const int64_t c = b.parameter_shape(norm, kRunningMean)[0];
  auto& buffers = b.made(norm).buffers;
  for (int k = kMean; k <= kPivot; k++) buffers.push_back(b.program.buffer(Per::program, c));
  const int weight = b.parameter(norm, kWeight), bias = b.parameter(norm, kBias);
  const int mean = b.parameter(norm, kRunningMean), var = b.parameter(norm, kRunningVar);
  const double momentum = b.node(norm).number("momentum"), eps = b.node(norm).number("eps");
  return [=, buffers = buffers, count = counter(b)](const Frame& f) {
    FusedStatistics s;
    s.mean = f.buffer(buffers[kMean]), s.rstd = f.buffer(buffers[kRstd]);
    s.scale = f.buffer(buffers[kScale]), s.shift = f.buffer(buffers[kShift]);
    s.weight = data(f, weight), s.bias = data(f, bias);
    s.running_mean = data(f, mean), s.running_var = data(f, var);
    s.momentum = momentum, s.eps = eps, s.arrivals = arrivals(f, count);
    return s;
  };
}

// How a step reads the output of a node: as it lies in memory, or made on load.
struct Input {
  std::vector<ValueId> reads;
  std::function<FusedInput(const Frame&, const Block&)> at;
};

Input read(Builder& b, int node) {
  const Builder::Made& m = b.made(node);
  if (m.write)
    return {m.on_load->reads(), [load = *m.on_load, shape = b.shape(m.y)](const Frame& f, const Block& all) {
              return load.at(f, all, shape);
            }};
  const ValueId x = b.in_layout(m.y, Layout::channels_last);
  return {{x}, [x](const Frame& f, const Block& all) {
            FusedInput input;
            input.x = f.at(x, all);
            return input;
          }};
}

}  // namespace

bool fused_conv_forward(Builder& b, int i, const Conv2dShape& s) {
  const auto& kernels = current_kernels().fused_conv;
  if (!b.on_cuda() || !b.options.training || !kernels.takes || !kernels.takes(s, false)) return false;
  const int input = b.node(i).inputs[0];
  Builder::Made& in = b.made(input);
  // Others need the output in memory, too; and its sign cannot be found again where a residual part is in it.
  const bool wanted = in.write && (b.consumers_of(input) > 1 || (in.on_load->residual >= 0 && in.on_load->relu));
  if (wanted && !kernels.takes(s, true)) b.written(input);
  const bool stores = wanted && in.write;
  const Input from = read(b, input);
  const ValueId stored = in.y, y = b.program.value(b.node(i).name, {s.c_out, s.h_out, s.w_out}, Layout::channels_last);
  const int norm = norm_after(b, i), bias = b.parameter(i, 1);
  const StatisticsOf statistics = statistics_of(b, norm);
  const Builder::Filters filters = b.filters(b.parameter(i, 0));
  std::vector<ValueId> writes{y};
  if (stores) writes.push_back(stored);
  b.program.block(
      std::string(in.write ? "batch_norm on load + " : "") + "conv2d" + (norm >= 0 ? " + statistics" : ""), from.reads,
      writes,
      [=](const Frame& f, const Block& all) {
        FusedInput x = from.at(f, all);
        if (stores) x.stored = f.at(stored, all);
        current_kernels().fused_conv.forward(s, x, f.buffer(filters.packed), data(f, bias), statistics(f),
                                             f.at(y, all));
      },
      Builder::kFirstPhase);
  if (stores) in.write = nullptr;
  Builder::Made& made = b.made(i);
  made.y = y, made.fused = true, made.statistics_of = norm;
  return true;
}

namespace {

// How the step reads the gradient of the convolution's output.
struct OutputGradient {
  std::vector<ValueId> reads;
  std::function<FusedGradient(const Frame&, const Block&)> at;
  int phase;  // the first in which it can
};

OutputGradient output_gradient(Builder& b, int i) {
  if (const auto& load = b.made(i).dy_on_load)
    return {{load->dz, load->x},
            [g = *load](const Frame& f, const Block& all) {
              FusedGradient dy;
              dy.dz = f.at(g.dz, all), dy.x = f.at(g.x, all);
              dy.batch_norm = {f.buffer(g.mean), f.buffer(g.scale), f.buffer(g.center), f.buffer(g.slope)};
              return dy;
            },
            load->phase};
  const ValueId dy = b.gradient(i, Layout::channels_last);
  return {{dy},
          [dy](const Frame& f, const Block& all) {
            FusedGradient gradient;
            gradient.dz = f.at(dy, all);
            return gradient;
          },
          0};
}

// What becomes of the gradient of the input: that of a batch norm is brought to its sums, where this is the last part
// of it; and what is known of it from other readers is added.
struct InputGradient {
  std::vector<ValueId> reads;
  std::function<FusedGradientSums(const Frame&, const Block&)> at;
  bool finishes_norm = false;
};

InputGradient input_gradient(Builder& b, int i) {
  const int input = b.node(i).inputs[0];
  const Builder::Made& in = b.made(input);
  const ValueId known = b.take_gradient(input, Layout::channels_last);
  const Shape shape = b.shape(in.y);
  InputGradient to;
  if (known >= 0) to.reads.push_back(known);
  to.finishes_norm = in.on_load && b.consumer_of(input) == i;
  const auto add = [=](const Frame& f, const Block& all) {
    FusedGradientSums sums;
    if (known >= 0) sums.add = {f.at(known, all), shape[1], shape[2], shape[0]};
    return sums;
  };
  if (!to.finishes_norm) {
    to.at = add;
    return to;
  }
  const Builder::OnLoad& load = *in.on_load;
  const ValueId y = load.relu && !in.write ? in.y : -1;
  to.reads.push_back(load.x);
  if (y >= 0) to.reads.push_back(y);
  const int weight = b.parameter(input, kWeight), bias = b.parameter(input, kBias);
  const int dweight = b.trains(input, kWeight) ? weight : -1, dbias = b.trains(input, kBias) ? bias : -1;
  to.at = [=, load = load, buffers = in.buffers, count = counter(b)](const Frame& f, const Block& all) {
    FusedGradientSums sums = add(f, all);
    sums.relu = load.relu, sums.y = y < 0 ? nullptr : f.at(y, all);
    sums.x = f.at(load.x, all), sums.affine = load.affine.at(f);
    sums.rstd = f.buffer(buffers[kRstd]), sums.weight = data(f, weight);
    sums.scale = f.buffer(buffers[kGradientScale]), sums.center = f.buffer(buffers[kCenter]);
    sums.slope = f.buffer(buffers[kSlope]);
    sums.dweight = gradient(f, dweight), sums.dbias = gradient(f, dbias);
    sums.arrivals = arrivals(f, count);
    return sums;
  };
  return to;
}

}  // namespace

void fused_conv_backward(Builder& b, int i, const Conv2dShape& s) {
  const int input = b.node(i).inputs[0], weight = b.parameter(i, 0);
  const bool with_input = b.made(input).needs_gradient, with_weight = b.trains(i, 0);
  const OutputGradient dy = output_gradient(b, i);
  if (b.trains(i, 1)) {
    const ValueId plain = dy.reads[0];
    b.sum_gradients("conv2d backward bias", {b.parameter(i, 1)}, {plain},
                    [=](const Frame& f, const Block& all, float* const* sums) {
                      current_kernels().conv2d.backward_bias(s, f.at(plain, all), Layout::channels_last, sums[0]);
                    });
  }
  if (!with_input && !with_weight) return;
  const Input from = read(b, input);
  const InputGradient to = with_input ? input_gradient(b, i) : InputGradient{};
  const Builder::Filters filters = b.filters(weight);
  const int64_t part = s.c_out * s.taps() * s.c_in;
  const BufferId parts =
      with_weight ? b.program.buffer(Per::program, current_kernels().fused_conv.weight_splits(s) * part) : -1;
  const std::string name = b.program[b.made(input).y].name;
  const ValueId dx = with_input ? b.program.value((to.finishes_norm ? "dz of " : "d") + name, {s.c_in, s.h_in, s.w_in},
                                                  Layout::channels_last)
                                : -1;
  std::vector<ValueId> reads = dy.reads, writes;
  reads.insert(reads.end(), from.reads.begin(), from.reads.end());
  reads.insert(reads.end(), to.reads.begin(), to.reads.end());
  if (with_input) writes.push_back(dx);
  const int phase = b.program.block(
      std::string("conv2d backward") + (with_input ? " input" : "") + (with_input && with_weight ? " and" : "") +
          (with_weight ? " weight" : "") + (to.finishes_norm ? " + batch_norm sums" : ""),
      reads, writes,
      [=](const Frame& f, const Block& all) {
        current_kernels().fused_conv.backward(s, dy.at(f, all), from.at(f, all), f.buffer(filters.turned),
                                              with_input ? to.at(f, all) : FusedGradientSums{},
                                              with_input ? f.at(dx, all) : nullptr,
                                              with_weight ? f.buffer(parts) : nullptr);
      },
      dy.phase);
  if (with_weight) b.gradient_in_parts(weight, s, parts, phase);
  if (!with_input) return;
  if (to.finishes_norm) {
    b.made(input).summed = phase;
    if (b.trains(input, kWeight)) b.gradient_written(b.parameter(input, kWeight), phase + 1);
    if (b.trains(input, kBias)) b.gradient_written(b.parameter(input, kBias), phase + 1);
  }
  b.add_gradient(input, dx, true);
}

}  // namespace convcore::plan

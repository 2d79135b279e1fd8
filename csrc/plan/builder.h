// From the graph of a network to the program of its steps.
//
// Each op has one file in plan/ops with the steps it emits: forward, and backward with the gradients of its parameters.
// Which kernel runs, and in which order of memory, is decided by the same functions as in csrc/ops, and the shapes are
// inferred there. Fusions are rules (rules.h) that rewrite the graph before.
#pragma once
#include <optional>

#include "ops/conv2d.h"
#include "ops/fused_conv.h"
#include "ops/optimizer_many.h"
#include "plan/graph.h"
#include "plan/program.h"

namespace convcore::plan {

struct BuildOptions {
  int64_t images;  // of a batch
  Shape input;     // of one image
  bool training;   // forward, loss, backward and update; else the output alone
};

class Builder {
 public:
  Builder(const Graph& graph, const BuildOptions& options, Program& program);

  void build();

  // ---- what the ops use ----

  // What a step that makes the whole gradient of a node's output does for it on the way.
  struct GradientSums {
    std::vector<ValueId> reads;
    std::function<ConvGradientSums(const Frame&, const Block&)> at;
  };

  // On a GPU. An output that need not be written: its readers make it as they load what it is made from,
  // relu((x - mean) * scale + shift + residual).
  struct OnLoad {
    struct Affine {
      BufferId mean = -1, scale = -1, shift = -1;
      BatchNormAffine at(const Frame& f) const {
        return mean < 0 ? BatchNormAffine{} : BatchNormAffine{f.buffer(mean), f.buffer(scale), f.buffer(shift)};
      }
    };
    ValueId x = -1;
    Affine affine;
    ValueId residual = -1;
    Affine residual_affine;
    bool relu = false;
    std::vector<ValueId> reads() const;
    FusedInput at(const Frame&, const Block&, const Shape& shape) const;
  };
  // And a gradient that is made from dz as it is loaded: scale * (dz - center - (x - mean) * slope).
  struct GradientOnLoad {
    ValueId dz, x;
    BufferId mean, scale, center, slope;
    int phase;  // in which they are there
  };

  // What the steps of a node left, for the nodes after it and for its own backward.
  struct Made {
    ValueId y = -1;                               // the output
    ValueId dy = -1;                              // its gradient, as far as it is known
    bool owns_dy = false;                         // nothing else reads the memory of dy: it may be written in place
    bool needs_gradient = false;                  // the output depends on a parameter that is trained
    std::vector<ValueId> values;                  // what the op keeps: indices, masks
    std::vector<BufferId> buffers;                // and prepared weights, statistics
    int phase = 0;                                // the first in which its statistics are complete
    std::function<ValueId(ValueId with)> recall;  // makes y again; see recalled
    std::pair<int, ValueId> recalled{-1, -1};     // the last answer, and its phase
    std::function<GradientSums(ValueId with)> gradient_sums;  // for a batch norm
    int summed = -1;                                          // the phase of the step that used them
    // On a GPU:
    std::optional<OnLoad> on_load;
    std::function<void()> write;  // emits the step that writes y; empty: it is written
    std::optional<GradientOnLoad> dy_on_load;
    int statistics_of = -1;  // the batch norm whose statistics the step of a convolution makes
    bool fused = false;      // the kernels of ops/fused_conv.h make it
  };

  const Graph& graph;
  const BuildOptions options;
  Program& program;

  const Node& node(int index) const { return graph.nodes[size_t(index)]; }
  Made& made(int index) { return made_[size_t(index)]; }
  Made& input_of(int index, int number = 0) { return written(node(index).inputs[size_t(number)]); }
  // What a node made, its output in memory.
  Made& written(int index);
  const Shape& shape(ValueId value) const { return program[value].shape; }
  Shape batch_shape(ValueId value) const;  // with the images in front
  int consumer_of(int index) const;        // the first; -1: none
  int consumers_of(int index) const;       // how many
  const Shape& parameter_shape(int index, int number) const;
  int parameter(int index, size_t number) const;
  bool trains(int index, size_t number) const;

  // The first phase in which prepared weights are there.
  static constexpr int kFirstPhase = 1;
  // A task of phase 0, which prepares weights; `cost` in multiply-adds. `once`: the step that updates them, where one
  // does, prepares them anew.
  void prepare(std::string text, double cost, std::function<void(const Frame&)> work, bool once = false);

  // The value in `layout`, by a step that reorders it where that is needed.
  ValueId in_layout(ValueId value, Layout layout);
  // The output of a node in the backward pass. Where it is cheaper made again than kept, it is, in the phase of `with`.
  ValueId recalled(int index, ValueId with);

  // dy of a node, in `layout`.
  ValueId gradient(int index, Layout layout) { return made(index).dy = in_layout(made(index).dy, layout); }
  // A value for the gradient that is made from dy of `index` element by element: in its memory where that is free.
  ValueId gradient_in_place(int index, const std::string& name);
  // Hands over what is known of the gradient of a node's output, in `layout`, to a step that adds to it and calls
  // add_gradient with the sum; -1 when nothing is known.
  ValueId take_gradient(int index, Layout layout);
  // Adds a contribution to the gradient of a node's output. `owned`: nothing else will read its memory.
  void add_gradient(int index, ValueId contribution, bool owned);

  // The gradients of some parameters as sums per shard: `work` overwrites each of `sums` with the sum over the images
  // of the block.
  void sum_gradients(std::string text, const std::vector<int>& parameters, const std::vector<ValueId>& reads,
                     std::function<void(const Frame&, const Block&, float* const* sums)> work);
  // Says that a task of `phase` writes all of the parameter's gradient.
  void gradient_written(int parameter, int phase);
  // Whether the task that completes a gradient of a node's parameters may update them, too (Frame::update). Then it
  // does not call gradient_written. Not where update() has more to do: with masks and norms.
  bool updates_at_once(int index) const;
  int group_of(int parameter) const { return graph.parameters[size_t(parameter)].group; }

  // On a GPU: the copies of a filter (c_out, c_in, taps) in the orders that the fused kernels read. The update keeps
  // them.
  struct Filters {
    BufferId packed, turned;
  };
  Filters filters(int parameter);
  // On a GPU: the gradient of the filter of this convolution is the sum of its parts, complete after `phase`.
  void gradient_in_parts(int parameter, const Conv2dShape&, BufferId parts, int phase);

  bool on_cuda() const { return program.device() == Device::cuda; }

  // Multiply-adds of one image, all passes.
  void count_work(double multiply_adds) { work_ += multiply_adds; }

 private:
  void output(int index);
  void update();
  // On a GPU:
  void update_at_once(int phase);  // all parameters by one kernel
  void pack_filters(int update_phase);
  int sum_parts(int phase, bool of_updated);
  std::pair<BufferId, int64_t> piece_table(const std::vector<int>& which);
  void limit_norms(int phase);
  static void sum_shards(const Frame&, const std::optional<BufferId>& shards, int64_t begin, int64_t size, float* grad);
  int64_t choose_shards() const;

  std::vector<Made> made_;
  struct Gradient {
    std::optional<BufferId> shards;
    std::optional<BufferId> parts;  // on a GPU: of the filter of this convolution
    Conv2dShape convolution{};
    std::optional<Filters> filters;
    int phase = -1;  // the first in which it is complete
  };
  std::vector<Gradient> gradients_;
  double work_ = 0;
};

// Emits the sums of `count` losses and, unless `right` is -1, of the right answers: the result of a pass.
void keep_result(Builder&, int phase, ValueId losses, int64_t count, ValueId right);

// The steps of an op. `backward` finds made(node).dy, and adds to the gradients of the inputs that need one.
struct OpSteps {
  void (*forward)(Builder&, int node);
  void (*backward)(Builder&, int node);
};
const OpSteps& steps_of(const std::string& op);  // throws std::invalid_argument for an op without steps
bool has_steps(const std::string& op);

extern const OpSteps kActivationSteps, kAdaptiveAvgPoolSteps, kAddSteps, kAvgPoolSteps, kBatchNormSteps, kConv2dSteps,
    kConvPoolSteps, kCrossEntropySteps, kDropout2dSteps, kDropoutSteps, kFlattenSteps, kGroupNormSteps, kInputSteps,
    kLinearSteps, kMaxPoolSteps, kMseLossSteps, kPadChannelsSteps, kPadSteps, kStochasticPoolSteps, kSubsampling2dSteps;

}  // namespace convcore::plan

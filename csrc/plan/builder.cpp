#include "plan/builder.h"

#include <algorithm>

#include "ops/kernels.h"

namespace convcore::plan {
namespace {

const std::map<std::string, const OpSteps*>& table() {
  static const std::map<std::string, const OpSteps*> steps{
      {"activation", &kActivationSteps},
      {"adaptive_avg_pool2d", &kAdaptiveAvgPoolSteps},
      {"add", &kAddSteps},
      {"avg_pool2d", &kAvgPoolSteps},
      {"batch_norm", &kBatchNormSteps},
      {"conv2d", &kConv2dSteps},
      {"conv_pool", &kConvPoolSteps},
      {"cross_entropy", &kCrossEntropySteps},
      {"dropout", &kDropoutSteps},
      {"dropout2d", &kDropout2dSteps},
      {"flatten", &kFlattenSteps},
      {"group_norm", &kGroupNormSteps},
      {"input", &kInputSteps},
      {"linear", &kLinearSteps},
      {"max_pool2d", &kMaxPoolSteps},
      {"mse_loss", &kMseLossSteps},
      {"pad", &kPadSteps},
      {"pad_channels", &kPadChannelsSteps},
      {"stochastic_pool2d", &kStochasticPoolSteps},
      {"subsampling2d", &kSubsampling2dSteps},
  };
  return steps;
}

// Parameters are updated in pieces that stay in L1 from the sum of the shards to the last use.
constexpr int64_t kUpdatePiece = 4096;

// Rows whose norms are limited go to the threads in tasks of at least this many values.
constexpr int64_t kRowsPiece = 16384;

constexpr size_t kMostSums = 2;  // parameters of one layer

// Shards of a batch: a power of two, so that two and four threads get the same work; enough for eight threads, and not
// so many that adding up their gradients costs much. One shard has at least this many multiply-adds to do (some 0.1
// ms).
constexpr int64_t kMostShards = 8;
constexpr double kShardWork = 12e6;

}  // namespace

bool has_steps(const std::string& op) { return table().count(op) > 0; }

const OpSteps& steps_of(const std::string& op) {
  if (!has_steps(op)) fail("plan", "op is not known", "one that has steps", "'" + op + "'");
  return *table().at(op);
}

Builder::Builder(const Graph& graph, const BuildOptions& options, Program& program)
    : graph(graph),
      options(options),
      program(program),
      made_(graph.nodes.size()),
      gradients_(graph.parameters.size()) {}

void Builder::build() {
  const int nodes = int(graph.nodes.size());
  for (int i = 0; i < nodes; i++) {
    for (int input : node(i).inputs) made(i).needs_gradient |= made(input).needs_gradient;
    for (size_t k = 0; k < node(i).parameters.size(); k++) made(i).needs_gradient |= trains(i, k);
    steps_of(node(i).op).forward(*this, i);
  }
  if (!options.training) output(nodes - 1);
  if (options.training) {
    for (int i = nodes - 1; i >= 0; i--)
      if (made(i).needs_gradient && made(i).dy >= 0) steps_of(node(i).op).backward(*this, i);
    update();
  }
  program.finish(options.training ? choose_shards() : 0);
}

void Builder::output(int index) {
  const ValueId y = in_layout(made(index).y, Layout::row_major);
  const int64_t floats = program[y].floats;
  program.output = program[y].shape;
  program.block("output", {y}, {}, [=](const Frame& f, const Block& b) {
    copy_floats(f.input.y + b.begin * floats, f.at(y, b), b.count() * floats);
  });
}

int64_t Builder::choose_shards() const {
  int64_t shards = 1;
  while (shards < kMostShards && work_ * double(options.images) >= 2 * double(shards) * kShardWork) shards *= 2;
  return shards;
}

// ---- what the ops use ---------------------------------------------------------------------------------------------

Shape Builder::batch_shape(ValueId value) const {
  Shape shape{options.images};
  shape.insert(shape.end(), program[value].shape.begin(), program[value].shape.end());
  return shape;
}

int Builder::parameter(int index, size_t number) const {
  const auto& parameters = node(index).parameters;
  return number < parameters.size() ? parameters[number] : -1;
}

int Builder::consumer_of(int index) const {
  for (int i = index + 1; i < int(graph.nodes.size()); i++)
    for (int input : node(i).inputs)
      if (input == index) return i;
  return -1;
}

int Builder::consumers_of(int index) const {
  int count = 0;
  for (const Node& other : graph.nodes)
    for (int input : other.inputs) count += input == index;
  return count;
}

Builder::Made& Builder::written(int index) {
  Made& m = made(index);
  if (m.write) {
    const auto write = std::move(m.write);
    m.write = nullptr;
    write();
  }
  return m;
}

std::vector<ValueId> Builder::OnLoad::reads() const {
  std::vector<ValueId> all{x};
  if (residual >= 0) all.push_back(residual);
  return all;
}

FusedInput Builder::OnLoad::at(const Frame& f, const Block& all, const Shape& shape) const {
  FusedInput input;
  input.x = f.at(x, all);
  input.affine = affine.at(f);
  input.relu = relu;
  if (residual < 0) return input;
  input.residual = {f.at(residual, all), shape[1], shape[2], shape[0]};
  input.residual_affine = residual_affine.at(f);
  return input;
}

const Shape& Builder::parameter_shape(int index, int number) const {
  return graph.parameters[size_t(parameter(index, size_t(number)))].shape;
}

bool Builder::trains(int index, size_t number) const {
  const int p = parameter(index, number);
  return options.training && p >= 0 && graph.parameters[size_t(p)].trainable;
}

void Builder::prepare(std::string text, double cost, std::function<void(const Frame&)> work, bool once) {
  program.tasks(
      std::move(text), {}, 0, 1, cost, [work = std::move(work)](const Frame& f, int64_t, int) { work(f); }, once);
}

ValueId Builder::in_layout(ValueId value, Layout layout) {
  const Value& v = program[value];
  if (v.layout == layout || v.shape.size() != 3) return value;
  const int64_t channels = v.shape[0], pixels = v.shape[1] * v.shape[2];
  if (channels == 1 || pixels == 1) return program.alias(value, v.name, v.shape, layout);  // the two orders are one
  const ValueId out = program.value(v.name, v.shape, layout);
  const int64_t rows = layout == Layout::channels_last ? channels : pixels, columns = channels * pixels / rows;
  program.block("reorder", {value}, {out}, [=](const Frame& f, const Block& b) {
    current_kernels().reorder.transpose(b.count(), rows, columns, f.at(value, b), f.at(out, b));
  });
  return out;
}

ValueId Builder::recalled(int index, ValueId with) {
  Made& m = made(index);
  if (!m.recall) return m.y;
  const int phase = program.phase_of(with);
  if (m.recalled.first != phase) m.recalled = {phase, m.recall(with)};
  return m.recalled.second;
}

ValueId Builder::gradient_in_place(int index, const std::string& name) {
  const Made& m = made(index);
  const Value& dy = program[m.dy];
  return m.owns_dy ? program.alias(m.dy, name, dy.shape, dy.layout) : program.value(name, dy.shape, dy.layout);
}

ValueId Builder::take_gradient(int index, Layout layout) {
  Made& m = made(index);
  if (m.dy < 0) return -1;
  const ValueId known = in_layout(m.dy, layout);
  m.dy = -1;
  return known;
}

void Builder::add_gradient(int index, ValueId contribution, bool owned) {
  Made& m = made(index);
  if (!m.needs_gradient) return;
  if (m.dy < 0) {
    m.dy = contribution, m.owns_dy = owned;
    return;
  }
  const ValueId other = in_layout(m.dy, program[contribution].layout);
  const Value& v = program[contribution];
  const ValueId sum = owned       ? program.alias(contribution, v.name, v.shape, v.layout)
                      : m.owns_dy ? program.alias(other, v.name, v.shape, v.layout)
                                  : program.value(v.name, v.shape, v.layout);
  const int64_t floats = v.floats;
  program.block(
      "add the gradients of both branches", {contribution, other}, {sum}, [=](const Frame& f, const Block& b) {
        current_kernels().add.forward(b.count() * floats, f.at(contribution, b), f.at(other, b), f.at(sum, b));
      });
  m.dy = sum, m.owns_dy = true;
}

void Builder::sum_gradients(std::string text, const std::vector<int>& parameters, const std::vector<ValueId>& reads,
                            std::function<void(const Frame&, const Block&, float* const*)> work) {
  struct Sums {
    BufferId shard, block;
    int64_t count;
  };
  std::vector<Sums> all;
  for (int p : parameters) {
    int64_t count = 1;
    for (int64_t size : graph.parameters[size_t(p)].shape) count *= size;
    if (on_cuda()) continue;
    all.push_back({program.buffer(Per::shard, count), program.buffer(Per::thread, count), count});
    gradients_[size_t(p)].shards = all.back().shard;
  }
  if (on_cuda()) {  // one block of all images: its sums are the gradients
    const int phase =
        program.block(std::move(text), reads, {}, [=, work = std::move(work)](const Frame& f, const Block& b) {
          float* sums[kMostSums];
          for (size_t i = 0; i < parameters.size(); i++) sums[i] = f.parameters[size_t(parameters[i])].grad;
          work(f, b, sums);
        });
    for (int p : parameters) gradients_[size_t(p)].phase = phase + 1;
    return;
  }
  const int phase =
      program.block(std::move(text), reads, {}, [=, work = std::move(work)](const Frame& f, const Block& b) {
        float *sums[kMostSums], *totals[kMostSums];
        for (size_t i = 0; i < all.size(); i++) {
          totals[i] = f.buffer(all[i].shard, b.shard);
          sums[i] = b.first ? totals[i] : f.buffer(all[i].block, b.thread);
        }
        work(f, b, sums);
        if (b.first) return;
        for (size_t i = 0; i < all.size(); i++)
          current_kernels().add.forward(all[i].count, totals[i], sums[i], totals[i]);
      });
  for (int p : parameters) gradients_[size_t(p)].phase = phase + 1;
}

bool Builder::updates_at_once(int index) const {
  for (int p : node(index).parameters)
    if (p >= 0 && (graph.parameters[size_t(p)].mask >= 0 || graph.parameters[size_t(p)].limited)) return false;
  return graph.clip_grad_norm == 0;
}

void Builder::gradient_written(int parameter, int phase) { gradients_[size_t(parameter)].phase = phase; }

void keep_result(Builder& b, int phase, ValueId losses, int64_t count, ValueId right) {
  const int64_t images = b.options.images;
  std::vector<ValueId> reads{losses};
  if (right >= 0) reads.push_back(right);
  b.program.serial("sum of the losses", reads, phase, [=](const Frame& f) {
    const float *loss = f.whole(losses), *hit = right < 0 ? nullptr : f.whole(right);
    if (f.program().device() == Device::cuda) {
      current_kernels().step.result(count, loss, images, hit, f.device_results.counter, f.device_results.rows);
      return;
    }
    double total = 0, hits = 0;
    for (int64_t k = 0; k < count; k++) total += double(loss[k]);
    for (int64_t k = 0; hit && k < images; k++) hits += double(hit[k]);
    *f.result = {total, hits};
  });
}

// ---- the update ---------------------------------------------------------------------------------------------------

// The gradient of a piece of a parameter, from the sums of the shards where it has some.
void Builder::sum_shards(const Frame& f, const std::optional<BufferId>& shards, int64_t begin, int64_t size,
                         float* grad) {
  if (!shards) return;
  const auto& add = current_kernels().add.forward;
  const int64_t n = f.program().shards();
  const float* first = f.buffer(*shards, 0) + begin;
  if (n == 1) copy_floats(grad, first, size);
  for (int64_t s = 1; s < n; s++) add(size, s == 1 ? first : grad, f.buffer(*shards, s) + begin, grad);
}

void Builder::update() {
  struct Piece {
    size_t parameter;
    int64_t count, pieces, first;  // values; pieces, and the number of the first
    std::optional<BufferId> shards;
    int group, mask;
    // The gradient of some of the values, complete.
    void finish(const Frame& f, int64_t begin, int64_t size) const {
      float* grad = f.parameters[parameter].grad + begin;
      sum_shards(f, shards, begin, size, grad);
      if (mask < 0) return;
      current_kernels().optimizer.mask(size, f.parameters[size_t(mask)].data + begin, grad);
    }
  };
  int phase = 0;
  std::vector<Piece> all;
  int64_t pieces = 0;
  const int64_t most = on_cuda() ? INT64_MAX : kUpdatePiece;
  for (size_t p = 0; p < gradients_.size(); p++) {
    if (gradients_[p].phase < 0) continue;
    int64_t count = 1;
    for (int64_t size : graph.parameters[p].shape) count *= size;
    const ParameterInfo& info = graph.parameters[p];
    all.push_back({p, count, count / most + (count % most != 0), pieces, gradients_[p].shards, info.group, info.mask});
    pieces += all.back().pieces;
    phase = std::max(phase, gradients_[p].phase);
  }
  const auto for_pieces =
      [&](const char* text,
          const std::function<void(const Frame&, const Piece&, int64_t task, int64_t begin, int64_t size)>& work) {
        for (const Piece& p : all)
          program.tasks(text + std::to_string(p.parameter), {}, phase, p.pieces, double(std::min(p.count, most)) / 2,
                        [=](const Frame& f, int64_t task, int) {
                          const int64_t begin = task > 0 ? task * most : 0;
                          work(f, p, task, begin, std::min(p.count - begin, most));
                        });
      };
  if (on_cuda()) {
    const bool plain = graph.clip_grad_norm == 0 && std::all_of(all.begin(), all.end(), [&](const Piece& p) {
                         return p.mask < 0 && !graph.parameters[p.parameter].limited;
                       });
    if (plain) return update_at_once(phase);
    phase = sum_parts(phase, true);
  }
  if (graph.clip_grad_norm == 0) {
    for_pieces("update parameter ", [](const Frame& f, const Piece& p, int64_t, int64_t begin, int64_t size) {
      p.finish(f, begin, size);
      f.update(p.group, f.parameters[p.parameter], begin, size);
    });
    limit_norms(phase + 1);
    if (on_cuda()) pack_filters(phase + 2);
    return;
  }
  // The norm is a sum over all parameters: one more phase.
  const BufferId squares = program.buffer(Per::program, 2 * pieces), factor = program.buffer(Per::program, 1);
  for_pieces("square of the gradient of parameter ",
             [=](const Frame& f, const Piece& p, int64_t task, int64_t begin, int64_t size) {
               p.finish(f, begin, size);
               current_kernels().reduction.sum_squares(size, f.parameters[p.parameter].grad + begin,
                                                       reinterpret_cast<double*>(f.buffer(squares)) + p.first + task);
             });
  const double longest = graph.clip_grad_norm;
  phase = program.serial("norm of all gradients", {}, phase + 1, [=](const Frame& f) {
    current_kernels().optimizer.clip_factor(pieces, reinterpret_cast<const double*>(f.buffer(squares)), longest,
                                            f.buffer(factor));
  });
  for_pieces("clip and update parameter ", [=](const Frame& f, const Piece& p, int64_t, int64_t begin, int64_t size) {
    const ParameterMemory& memory = f.parameters[p.parameter];
    current_kernels().optimizer.clip(size, f.buffer(factor), memory.grad + begin);
    f.update(p.group, memory, begin, size);
  });
  limit_norms(phase + 1);
  if (on_cuda()) pack_filters(phase + 2);
}

// ---- the update on a GPU --------------------------------------------------------------------------------------------

Builder::Filters Builder::filters(int parameter) {
  std::optional<Filters>& known = gradients_[size_t(parameter)].filters;
  if (!known) {
    int64_t floats = 1;
    for (int64_t size : graph.parameters[size_t(parameter)].shape) floats *= size;
    known = Filters{program.buffer(Per::program, floats), program.buffer(Per::program, floats)};
  }
  return *known;
}

void Builder::gradient_in_parts(int parameter, const Conv2dShape& s, BufferId parts, int phase) {
  Gradient& gradient = gradients_[size_t(parameter)];
  gradient.parts = parts, gradient.convolution = s, gradient.phase = phase + 1;
}

// The parameters of `which`, as a table in device memory: {where it is, blocks of its kernels}.
std::pair<BufferId, int64_t> Builder::piece_table(const std::vector<int>& which) {
  std::vector<OptimizerPiece> pieces;
  struct Source {
    int parameter;
    std::optional<BufferId> parts;
    std::optional<Filters> filters;
  };
  std::vector<Source> sources;
  for (int p : which) {
    const Gradient& gradient = gradients_[size_t(p)];
    const Shape& shape = graph.parameters[size_t(p)].shape;
    OptimizerPiece piece{};
    piece.count = 1;
    for (int64_t size : shape) piece.count *= size;
    piece.factors = p;
    if (gradient.parts) piece.splits = current_kernels().fused_conv.weight_splits(gradient.convolution);
    if (gradient.filters) piece.c_out = shape[0], piece.c_in = shape[1], piece.taps = shape[2] * shape[3];
    static const float somewhere = 0;
    piece.parts = gradient.parts ? &somewhere : nullptr;  // number_blocks asks whether there are any
    pieces.push_back(piece);
    sources.push_back({p, gradient.parts, gradient.filters});
  }
  const int64_t blocks = number_blocks(pieces.data(), int64_t(pieces.size()));
  const int64_t bytes = int64_t(pieces.size() * sizeof(OptimizerPiece));
  const BufferId table = program.buffer(Per::program, bytes / int64_t(sizeof(float)) + 1);
  program.host([=](const Frame& f) {
    std::vector<OptimizerPiece> now = pieces;
    for (size_t i = 0; i < now.size(); i++) {
      const ParameterMemory& memory = f.parameters[size_t(sources[i].parameter)];
      now[i].param = memory.data, now[i].grad = memory.grad;
      std::copy(memory.state, memory.state + 3, now[i].state);
      now[i].parts = sources[i].parts ? f.buffer(*sources[i].parts) : nullptr;
      if (!sources[i].filters) continue;
      now[i].packed = f.buffer(sources[i].filters->packed), now[i].turned = f.buffer(sources[i].filters->turned);
    }
    copy_bytes(Device::cuda, f.buffer(table), Device::cpu, now.data(), bytes);
  });
  return {table, blocks};
}

static const OptimizerPiece* pieces_at(const Frame& f, BufferId table) {
  return reinterpret_cast<const OptimizerPiece*>(f.buffer(table));
}

// The copies of all filters, before the first step; and from then on after it, where the update does not keep them.
void Builder::pack_filters(int update_phase) {
  std::vector<int> filters;
  for (size_t p = 0; p < gradients_.size(); p++)
    if (gradients_[p].filters) filters.push_back(int(p));
  if (filters.empty()) return;
  const auto [table, blocks] = piece_table(filters);
  const auto count = int64_t(filters.size());
  const auto pack = [=, table = table, blocks = blocks](const Frame& f) {
    current_kernels().optimizer_many.pack(pieces_at(f, table), count, blocks);
  };
  prepare("copies of the filters", 1, pack, true);
  if (update_phase >= 0)
    program.tasks("copies of the filters", {}, update_phase, 1, 1, [=](const Frame& f, int64_t, int) { pack(f); });
}

void Builder::update_at_once(int phase) {
  std::vector<int> trained;
  for (size_t p = 0; p < gradients_.size(); p++)
    if (gradients_[p].phase >= 0 && graph.parameters[p].group >= 0) trained.push_back(int(p));
  pack_filters(-1);
  sum_parts(phase, false);
  if (trained.empty()) return;
  const auto [table, blocks] = piece_table(trained);
  const auto count = int64_t(trained.size());
  program.tasks("update all parameters", {}, phase, 1, 1,
                [=, table = table, blocks = blocks](const Frame& f, int64_t, int) {
                  f.update_many(pieces_at(f, table), count, blocks);
                });
}

// Where the gradients have to be there before the update: those of filters from their parts. Returns the phase after.
int Builder::sum_parts(int phase, bool of_updated) {
  bool any = false;
  for (size_t p = 0; p < gradients_.size(); p++) {
    const Gradient& gradient = gradients_[p];
    if (!gradient.parts || (graph.parameters[p].group >= 0 && !of_updated)) continue;
    any = true;
    program.tasks("sum the gradients of parameter " + std::to_string(p), {}, phase, 1, 1,
                  [=, s = gradient.convolution, parts = *gradient.parts](const Frame& f, int64_t, int) {
                    current_kernels().fused_conv.sum_parts(s, f.buffer(parts), f.parameters[p].grad);
                  });
  }
  return phase + any;
}

void Builder::limit_norms(int phase) {
  for (size_t p = 0; p < gradients_.size(); p++) {
    const ParameterInfo& info = graph.parameters[p];
    if (gradients_[p].phase < 0 || info.group < 0 || !info.limited) continue;
    const int64_t rows = info.shape[0];
    int64_t columns = 1;
    for (size_t axis = 1; axis < info.shape.size(); axis++) columns *= info.shape[axis];
    const int64_t of_task = std::max<int64_t>(1, kRowsPiece / std::max<int64_t>(columns, 1));
    program.tasks("limit norms of parameter " + std::to_string(p), {}, phase, (rows + of_task - 1) / of_task,
                  double(of_task * columns), [=](const Frame& f, int64_t task, int) {
                    const int64_t first = task * of_task;
                    f.limit_norms(info.group, f.parameters[p], first, std::min(of_task, rows - first), columns);
                  });
  }
}

}  // namespace convcore::plan

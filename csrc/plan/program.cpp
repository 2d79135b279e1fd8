#include "plan/program.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <utility>

#include "core/ahead.h"
#include "ops/kernels.h"

namespace convcore::plan {
namespace {

constexpr int64_t kLine = int64_t(kAlignment / sizeof(float));
int64_t whole_lines(int64_t floats) { return (floats + kLine - 1) / kLine * kLine; }

// What the block steps of a phase touch for one block should stay in an L2 cache while they run, beside the workspaces
// of the kernels; and more images than this bring nothing.
constexpr int64_t kBlockFloats = 1 << 18;  // 1 MiB
constexpr int64_t kBlockImages = 32;

// Every other phase goes backwards through the blocks, as what the phase before touched last is still in the cache, if
// all that it touches is at most this: otherwise that is a small part of it.
constexpr int64_t kTurnFloats = 1 << 22;  // 16 MiB

struct Piece {  // of memory, taken from `first` to `last` (phases, or steps)
  int64_t floats;
  int first, last;
  int64_t* offset;
};

// Lays the pieces into as little memory as a greedy choice finds, largest first: two may share memory when they are not
// taken at the same time. Returns its size.
int64_t pack(std::vector<Piece> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.floats > b.floats; });
  int64_t end = 0;
  std::vector<Piece> placed;
  for (const Piece& piece : pieces) {
    std::vector<std::pair<int64_t, int64_t>> taken;  // begin and end of what is in the way
    for (const Piece& other : placed)
      if (other.first <= piece.last && piece.first <= other.last)
        taken.emplace_back(*other.offset, *other.offset + other.floats);
    std::sort(taken.begin(), taken.end());
    int64_t at = 0;
    for (const auto& [from, to] : taken) {
      if (from - at >= piece.floats) break;
      at = std::max(at, to);
    }
    *piece.offset = at;
    end = std::max(end, at + piece.floats);
    placed.push_back(piece);
  }
  return end;
}

}  // namespace

// ---- building -----------------------------------------------------------------------------------------------------

ValueId Program::value(std::string name, Shape shape, Layout layout) {
  int64_t floats = 1;
  for (int64_t size : shape) floats *= size;
  values_.push_back({std::move(shape), layout, floats, int(values_.size()), std::move(name)});
  uses_.emplace_back();
  return ValueId(values_.size()) - 1;
}

ValueId Program::alias(ValueId of, std::string name, Shape shape, Layout layout) {
  const ValueId id = value(std::move(name), std::move(shape), layout);
  values_[size_t(id)].storage = values_[size_t(of)].storage;
  return id;
}

BufferId Program::buffer(Per per, int64_t floats) {
  buffers_.push_back({per, whole_lines(floats), 0});
  return BufferId(buffers_.size()) - 1;
}

Program::Phase& Program::phase(int index) {
  if (index >= int(phases_.size())) phases_.resize(size_t(index) + 1);
  return phases_[size_t(index)];
}

void Program::touch(ValueId id, int phase, int step, bool write) {
  Use& use = uses_[size_t(values_[size_t(id)].storage)];
  if (write) use.made = std::max(use.made, phase);
  use.first = std::min(use.first, phase);
  use.last = std::max(use.last, phase);
  if (step < 0) use.whole = true;
  use.first_step = std::min(use.first_step, step);
  use.last_step = std::max(use.last_step, step);
}

int Program::block(std::string text, const std::vector<ValueId>& reads, const std::vector<ValueId>& writes,
                   BlockWork work, int after) {
  int index = after;
  for (ValueId id : reads) index = std::max(index, phase_of(id));
  for (ValueId id : writes) {
    const Use& use = uses_[size_t(values_[size_t(id)].storage)];
    index = std::max({index, use.last, use.tasks + 1});
  }
  Phase& in = phase(index);
  const int step = int(in.blocks.size());
  in.blocks.push_back({std::move(text), std::move(work), reads, writes, steps_++});
  for (ValueId id : reads) touch(id, index, step, false);
  for (ValueId id : writes) touch(id, index, step, true);
  return index;
}

int Program::tasks(std::string text, const std::vector<ValueId>& reads, int after, int64_t count, double cost,
                   TaskWork work, bool once) {
  int index = after;
  for (ValueId id : reads) index = std::max(index, phase_of(id) + 1);
  phase(index).tasks.push_back({std::move(text), std::move(work), steps_++, count, cost, once});
  for (ValueId id : reads) {
    touch(id, index, -1, false);
    Use& use = uses_[size_t(values_[size_t(id)].storage)];
    use.tasks = std::max(use.tasks, index);
  }
  return index;
}

int Program::serial(std::string text, const std::vector<ValueId>& reads, int index, SerialWork work) {
  for (ValueId id : reads) touch(id, index, -1, false);
  phase(index).before.push_back({std::move(text), std::move(work)});
  return index;
}

int Program::first_phase(bool again) const {
  if (!again || phases_.empty()) return 0;
  const Phase& phase = phases_.front();
  const bool idle = phase.before.empty() && phase.blocks.empty() &&
                    std::all_of(phase.tasks.begin(), phase.tasks.end(), [](const TaskStep& t) { return t.once; });
  return idle ? 1 : 0;
}

// ---- placing ------------------------------------------------------------------------------------------------------

void Program::finish(int64_t shards) {
  for (size_t i = 0; i < values_.size(); i++) {
    Use& use = uses_[i];
    use.local = device_ == Device::cpu && values_[i].storage == int(i) && use.first == use.last && !use.whole;
  }
  list_whole_values();
  cut_blocks(shards);
  place_values();
  place_buffers();
}

void Program::list_whole_values() {
  for (Phase& phase : phases_) {
    std::vector<bool> seen(values_.size());
    for (const BlockStep& step : phase.blocks)
      for (const auto* ids : {&step.reads, &step.writes})
        for (ValueId id : *ids) {
          const int storage = values_[size_t(id)].storage;
          if (!seen[size_t(storage)] && !uses_[size_t(storage)].local) phase.whole.push_back(storage);
          seen[size_t(storage)] = true;
        }
  }
}

void Program::cut_blocks(int64_t shards) {
  if (device_ == Device::cuda) {
    for (Phase& phase : phases_) phase.block_images = std::max<int64_t>(1, images_);
    return;
  }
  int64_t most = 1;
  for (size_t p = 0; p < phases_.size(); p++) {
    Phase& phase = phases_[p];
    int64_t floats = pack_local(int(p), 1);  // that one image takes in the cache
    for (ValueId id : phase.whole) floats += values_[size_t(id)].floats;
    phase.block_images = std::clamp<int64_t>(kBlockFloats / std::max<int64_t>(1, floats), 1, kBlockImages);
    int64_t whole = 0;
    for (ValueId id : phase.whole) whole += values_[size_t(id)].floats * images_;
    phase.backwards = p % 2 != 0 && whole <= kTurnFloats;
    if (!phase.blocks.empty()) most = std::max(most, (images_ + phase.block_images - 1) / phase.block_images);
  }
  shards_ = std::clamp<int64_t>(shards == 0 ? most : shards, 1, std::max<int64_t>(1, images_));
  // No more than a shard has, evenly cut.
  const int64_t largest = (images_ + shards_ - 1) / shards_;
  for (Phase& phase : phases_) {
    const int64_t blocks = (largest + phase.block_images - 1) / phase.block_images;
    phase.block_images = blocks ? (largest + blocks - 1) / blocks : 1;
  }
}

int64_t Program::pack_local(int phase, int64_t images) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < values_.size(); i++) {
    Use& use = uses_[i];
    if (use.local && use.first == phase && use.last >= 0)
      pieces.push_back({whole_lines(values_[i].floats * images), use.first_step, use.last_step, &use.offset});
  }
  return pack(std::move(pieces));
}

void Program::place_values() {
  std::vector<Piece> whole;
  for (size_t i = 0; i < values_.size(); i++) {
    Use& use = uses_[i];
    if (values_[i].storage == int(i) && use.last >= 0 && !use.local)
      whole.push_back({whole_lines(values_[i].floats * images_), use.first, use.last, &use.offset});
  }
  arena_floats_ = pack(std::move(whole));
  block_floats_ = 0;
  for (size_t p = 0; p < phases_.size(); p++)
    block_floats_ = std::max(block_floats_, pack_local(int(p), phases_[p].block_images));
  block_floats_ += kLine;  // the buffers of two threads share no line
}

void Program::place_buffers() {
  for (BufferPlace& buffer : buffers_) {
    int64_t& end = buffer.per == Per::program ? program_floats_
                   : buffer.per == Per::shard ? shard_floats_
                                              : thread_floats_;
    buffer.offset = end;
    end += buffer.floats;
  }
}

// ---- running ------------------------------------------------------------------------------------------------------

Frame::Frame(const Program& program, int threads) : program_(program), threads_(threads) {
  const int64_t floats = program.arena_floats_ + program.program_floats_ + program.shards_ * program.shard_floats_ +
                         threads * (program.thread_floats_ + program.block_floats_);
  bytes_ = floats * int64_t(sizeof(float));
  memory_ = allocate_on(program.device(), size_t(bytes_));
  arena_ = static_cast<float*>(memory_.get());
  programs_ = arena_ + program.arena_floats_;
  shards_ = programs_ + program.program_floats_;
  blocks_ = shards_ + program.shards_ * program.shard_floats_;
  per_thread_ = blocks_ + threads * program.block_floats_;
  if (program.device() == Device::cpu) return;
  const DeviceScope scope(program.device());
  clear_bytes(programs_, program.program_floats_ * int64_t(sizeof(float)));  // counters in it begin at 0
}

float* Frame::buffer(BufferId id, int64_t index) const {
  const Program::BufferPlace& place = program_.buffers_[size_t(id)];
  switch (place.per) {
    case Per::shard:
      return shards_ + index * program_.shard_floats_ + place.offset;
    case Per::thread:
      return per_thread_ + index * program_.thread_floats_ + place.offset;
    default:
      return programs_ + place.offset;
  }
}

void Frame::run_before(int phase) const {
  for (const auto& step : program_.phases_[size_t(phase)].before) step.work(*this);
}

void Frame::run_once_only() const {
  for (const auto& phase : program_.phases_)
    for (const auto& step : phase.tasks)
      for (int64_t task = 0; step.once && task < step.count; task++) step.work(*this, task, 0);
}

Block Frame::block(int64_t shard, int64_t number, const Order& order) const {
  const int64_t begin = program_.shard_begin(shard), images = program_.shard_begin(shard + 1) - begin;
  const int64_t blocks = blocks_of(shard, order), i = order.backwards ? blocks - 1 - number : number;
  return {begin + images * i / blocks,
          begin + images * (i + 1) / blocks,
          shard,
          number == 0,
          number + 1 == blocks,
          order.thread};
}

Frame::Order Frame::order_of(int phase, int thread) const {
  const Program::Phase& steps = program_.phases_[size_t(phase)];
  return {steps.backwards, steps.block_images, thread};
}

int64_t Frame::blocks_of(int64_t shard, const Order& order) const {
  const int64_t images = program_.shard_begin(shard + 1) - program_.shard_begin(shard);
  return std::max<int64_t>(1, (images + order.most - 1) / order.most);
}

// What the next block touches is fetched last-listed first (core/ahead.h), so the list is handed over backwards.
void Frame::announce(const Program::Phase& phase, const Block& next) const {
  if (program_.device() != Device::cpu) return;
  Ahead& list = ahead();
  list.count = 0;
  for (auto id = phase.whole.rbegin(); id != phase.whole.rend(); ++id)
    list.add(at(*id, next), next.count() * program_[*id].floats);
}

void Frame::announce_first(int phase, int thread, int64_t first_shard, int64_t end_shard) const {
  const Order order = order_of(phase, thread);
  announce(program_.phases_[size_t(phase)], block(order.backwards ? end_shard - 1 : first_shard, 0, order));
}

void Frame::run_phase(int phase, int thread, int threads) const {
  const Program::Phase& steps = program_.phases_[size_t(phase)];
  const int64_t shards = program_.shards_;
  const bool profiled = thread == 0 && !profile.empty();
  if (!steps.blocks.empty()) {
    const Order order = order_of(phase, thread);
    const int64_t begin = shards * thread / threads, end = shards * (thread + 1) / threads;
    for (int64_t i = begin; i < end; i++) {
      const int64_t shard = order.backwards ? begin + end - 1 - i : i, blocks = blocks_of(shard, order);
      for (int64_t number = 0; number < blocks; number++) {
        const Block now = block(shard, number, order);
        if (number + 1 < blocks)
          announce(steps, block(shard, number + 1, order));
        else if (i + 1 < end)
          announce(steps, block(order.backwards ? shard - 1 : shard + 1, 0, order));
        else if (phase + 1 < program_.phases())
          announce_first(phase + 1, thread, begin, end);
        for (const auto& step : steps.blocks) {
          const Stopwatch watch(profiled ? &profile[size_t(step.number)] : nullptr);
          step.work(*this, now);
        }
      }
    }
    ahead().count = 0;
  }
  double total = 0, at = 0;
  for (const auto& step : steps.tasks)
    if (!again || !step.once) total += step.cost * double(step.count);
  for (const auto& step : steps.tasks)
    for (int64_t task = 0; task < step.count && !(again && step.once); task++, at += step.cost)
      if (std::min(int((at + step.cost / 2) / total * threads), threads - 1) == thread) {
        const Stopwatch watch(profiled ? &profile[size_t(step.number)] : nullptr);
        step.work(*this, task, thread);
      }
}

void Frame::update(int group, const ParameterMemory& p, int64_t begin, int64_t count) const {
  if (group < 0) return;  // not the optimizer's
  const GroupStep& step = groups[size_t(group)];
  float *data = p.data + begin, *grad = p.grad + begin;
  const auto state = [&](int i) { return p.state[i] ? p.state[i] + begin : nullptr; };
  const OptimizerKernels& kernels = current_kernels().optimizer;
  const auto at = [&](auto* own) { return p.factors ? static_cast<decltype(own)>(p.factors) : own; };
  if (const auto* sgd = std::get_if<SgdFactors>(&step.factors)) {
    SgdFactors factors = *sgd;
    factors.first_step = p.first_step;
    kernels.sgd(count, at(&std::as_const(factors)), data, grad, state(0));
  } else if (const auto* adam = std::get_if<AdamFactors>(&step.factors)) {
    kernels.adam(count, at(adam), data, grad, state(0), state(1));
  } else if (const auto* rmsprop = std::get_if<RmspropFactors>(&step.factors)) {
    kernels.rmsprop(count, at(rmsprop), data, grad, state(0), state(1), state(2));
  } else {
    kernels.adagrad(count, at(&std::get<AdagradFactors>(step.factors)), data, grad, state(0));
  }
}

void Frame::update_many(const OptimizerPiece* pieces, int64_t count, int64_t blocks) const {
  const OptimizerManyKernels& kernels = current_kernels().optimizer_many;
  std::visit(
      [&](const auto& rule) {
        using Factors = std::decay_t<decltype(rule)>;
        const auto* all = static_cast<const Factors*>(factors);
        if constexpr (std::is_same_v<Factors, SgdFactors>) kernels.sgd(pieces, count, blocks, all);
        if constexpr (std::is_same_v<Factors, AdamFactors>) kernels.adam(pieces, count, blocks, all);
        if constexpr (std::is_same_v<Factors, RmspropFactors>) kernels.rmsprop(pieces, count, blocks, all);
        if constexpr (std::is_same_v<Factors, AdagradFactors>) kernels.adagrad(pieces, count, blocks, all);
      },
      groups.front().factors);
}

void Frame::limit_norms(int group, const ParameterMemory& p, int64_t first_row, int64_t rows, int64_t columns) const {
  current_kernels().optimizer.limit_norms(rows, columns, groups[size_t(group)].max_norm, p.data + first_row * columns);
}

// ---- description --------------------------------------------------------------------------------------------------

std::string Program::describe(const std::vector<double>& profile) const {
  std::ostringstream text;
  const auto milliseconds = [&](int number) {
    if (profile.empty()) return std::string("  ");
    std::ostringstream t;
    t << std::fixed << std::setprecision(3) << std::setw(9) << profile[size_t(number)] * 1e3 << "  ";
    return t.str();
  };
  const auto value_text = [&](ValueId id) {
    const Value& v = values_[size_t(id)];
    std::string t = v.name + to_string(v.shape);
    if (v.layout == Layout::channels_last && v.shape.size() == 3) t += " channels-last";
    return t + (uses_[size_t(v.storage)].local ? ", of the block" : "");
  };
  text << images_ << " images in " << shards_ << (shards_ == 1 ? " shard" : " shards") << "; values of the whole batch "
       << (arena_floats_ * 4 + 1023) / 1024 << " KiB, of a block " << (block_floats_ * 4 + 1023) / 1024
       << " KiB per thread\n";
  if (!profile.empty()) text << "milliseconds of the first thread, of which it waited " << profile.back() * 1e3 << "\n";
  for (size_t i = 0; i < phases_.size(); i++) {
    const Phase& phase = phases_[i];
    text << "phase " << i + 1;
    if (!phase.blocks.empty())
      text << ", blocks of " << phase.block_images << (phase.block_images == 1 ? " image" : " images");
    text << "\n";
    for (const auto& step : phase.before)
      text << (profile.empty() ? "" : "         ") << "  once   " << step.text << "\n";
    for (const auto& step : phase.blocks) {
      text << milliseconds(step.number) << "block  " << step.text;
      for (size_t k = 0; k < step.writes.size(); k++) text << (k ? "; " : " -> ") << value_text(step.writes[k]);
      text << "\n";
    }
    for (const auto& step : phase.tasks)
      text << milliseconds(step.number) << "tasks  " << step.text << (step.count > 1 ? ", " : "")
           << (step.count > 1 ? std::to_string(step.count) : "") << (step.once ? ", in the first pass" : "") << "\n";
  }
  return text.str();
}

}  // namespace convcore::plan

#include "plan/plan.h"

#include <algorithm>
#include <numeric>

#include "core/team.h"
#include "core/threads.h"
#include "plan/builder.h"
#include "plan/recorded.h"
#include "plan/rules.h"

namespace convcore::plan {
namespace {

// Programs kept at once; a training uses three (a batch, the last smaller one, evaluation).
constexpr size_t kMostPrograms = 6;

// The images from number `begin` on.
void set_images(PassInput& input, const ImageSource& x, int64_t begin) {
  int64_t values = 1;  // of one image
  for (size_t axis = 1; axis < x.shape().size(); axis++) values *= x.shape()[axis];
  input.floats = x.bytes.given() ? nullptr : x.floats.data() + begin * values;
  input.bytes = x.bytes.given() ? x.bytes.data() + begin * values : nullptr;
  input.gather = x.gather;
  input.gather_key = &x.gather.key;
}

// `later`: steps since the first one of the call.
GroupStep step_of(const GroupSettings& group, int64_t later) {
  GroupStep step{{}, float(group.max_norm)};
  if (const auto* sgd = std::get_if<SgdParams>(&group.rule)) step.factors = sgd_factors(*sgd);
  if (const auto* rmsprop = std::get_if<RmspropParams>(&group.rule)) step.factors = rmsprop_factors(*rmsprop);
  if (const auto* adam = std::get_if<AdamParams>(&group.rule)) {
    AdamParams params = *adam;
    params.step += later;
    step.factors = adam_factors(params);
  }
  if (const auto* adagrad = std::get_if<AdagradParams>(&group.rule)) {
    AdagradParams params = *adagrad;
    params.step += later;
    step.factors = adagrad_factors(params);
  }
  return step;
}

}  // namespace

struct Plan::Prepared {
  Program program;
  std::unique_ptr<Frame> frame;
  std::unique_ptr<Recorded> recorded;  // on a GPU
  Tensor y;                            // where a recorded forward pass leaves its output
  int64_t profiled_passes = 0;

  Prepared(const Graph& graph, const Shape& input, int64_t images, bool training,
           const std::vector<std::string>& without)
      : program(images) {
    Builder(fuse(graph, training, without), {images, input, training}, program).build();
  }

  // More threads than shards would have nothing to do.
  Frame& frame_for(int threads) {
    if (!frame || frame->threads() < threads) {
      frame.reset();
      frame = std::make_unique<Frame>(program, threads);
    }
    return *frame;
  }

  Recorded& recorded_for(int precision) {
    if (!recorded) recorded = std::make_unique<Recorded>(frame_for(1));
    frame->precision = precision;
    return *recorded;
  }

  // One pass from phase `from` on, called by every thread of a team. `before`: what one thread does first.
  void pass(Team& team, int thread, int from, CallableRef<> before) {
    for (int phase = from; phase < program.phases(); phase++) {
      {
        const Stopwatch watch(thread == 0 && !frame->profile.empty() ? &frame->profile.back() : nullptr);
        team.meet([&] {
          if (phase == from) before(), profiled_passes++;
          frame->run_before(phase);
        });
      }
      team.attempt([&] { frame->run_phase(phase, thread, team.threads()); });
    }
  }
};

Plan::Plan(Graph training, Graph inference, Shape input, std::vector<std::string> without_rules, int precision)
    : training_(std::move(training)),
      inference_(std::move(inference)),
      input_(std::move(input)),
      without_rules_(std::move(without_rules)),
      device_(current_device()),
      precision_(precision) {}
Plan::~Plan() = default;

Plan::Prepared& Plan::prepared(int64_t images, bool training) {
  const DeviceScope scope(device_);
  auto& entry = programs_[{images, training}];
  if (!entry) {
    if (programs_.size() > kMostPrograms) {
      programs_.clear();
      return prepared(images, training);
    }
    try {
      entry = std::make_unique<Prepared>(training ? training_ : inference_, input_, images, training, without_rules_);
    } catch (...) {
      programs_.erase({images, training});
      throw;
    }
  }
  return *entry;
}

void Plan::prepare(int64_t images, bool training) {
  std::lock_guard<std::mutex> lock(mutex_);
  prepared(images, training);
}

// What a callback may have changed since the last call, found before the first step.
static void check(const TrainingArguments& a, const Graph& graph, int64_t classes) {
  for (const ParameterInfo& parameter : graph.parameters)
    if (parameter.group >= int(a.groups.size()))
      fail("fit", "the optimizer has lost a group of parameters", "the groups that were planned",
           std::to_string(a.groups.size()) + " groups");
  if (classes == 0) return;
  if (a.targets.given())
    return expect_shape("cross_entropy", "target", a.targets.shape(), {a.targets.shape()[0], classes},
                        "the share of each class");
  for (int64_t i = 0; i < a.order.count(); i++) {
    const int64_t label = a.labels.data()[a.order.data()[i]];
    if (label != a.ignore_index && (label < 0 || label >= classes))
      fail("cross_entropy", "target has a label out of range",
           "0 to " + std::to_string(classes - 1) + " (or ignore_index = " + std::to_string(a.ignore_index) + ")",
           std::to_string(label) + " at position " + std::to_string(a.order.data()[i]));
  }
}

// The labels among the images of a step that count, or the values; 1 over that is the scale of a mean's gradient.
static int64_t count_targets(const TrainingArguments& a, const int64_t* order, int64_t size, int64_t classes) {
  const bool values = a.targets.given() && classes == 0;  // of a regression
  int64_t targets = size * (values ? a.targets.count() / a.targets.shape()[0] : 1);
  if (a.labels.given())
    for (int64_t i = 0; i < size; i++) targets -= a.labels.data()[order[i]] == a.ignore_index;
  return targets;
}

static float loss_scale(const TrainingArguments& a, int64_t targets) {
  return a.mean && targets > 0 ? float(1.0 / double(targets)) : 1.f;
}

// In the memory that `groups` has: a step allocates nothing.
static void set_groups(std::vector<GroupStep>& groups, const TrainingArguments& a, int64_t step) {
  groups.clear();
  for (const GroupSettings& group : a.groups) groups.push_back(step_of(group, step));
}

static std::vector<GroupStep> groups_of(const TrainingArguments& a, int64_t step) {
  std::vector<GroupStep> groups;
  set_groups(groups, a, step);
  return groups;
}

static const RandomKey* dropout_keys(const TrainingArguments& a, int64_t step, int64_t dropouts) {
  return a.dropout_keys.data() + step * dropouts;
}

std::vector<StepResult> Plan::train(const TrainingArguments& a) {
  if (device_ == Device::cuda) return train_recorded(a);
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t images = a.order.count(), steps = (images + a.batch - 1) / a.batch;
  const int64_t dropouts = steps > 0 ? int64_t(a.dropout_keys.size()) / steps : 0;  // of a step
  // What cannot be planned is an error before the first step.
  for (int64_t size : {std::min(a.batch, images), images % a.batch})
    if (size > 0) check(a, training_, prepared(size, true).program.label_classes);
  std::vector<StepResult> results(static_cast<size_t>(steps));
  std::vector<ParameterMemory> parameters = a.parameters;
  // The steps of one size run in one team: first the whole batches, then the last one.
  for (int64_t begin = 0; begin < steps;) {
    const int64_t size = std::min(a.batch, images - begin * a.batch);
    const int64_t end = size < a.batch ? steps : begin + (images - begin * a.batch) / a.batch;
    Prepared& p = prepared(size, true);
    Team team(int(std::min<int64_t>(num_threads(), p.program.shards())));
    Frame& frame = p.frame_for(team.threads());
    frame.parameters = parameters;
    float scale = 1;
    const auto start = [&](int64_t step) {
      StepResult& result = results[size_t(step)];
      set_images(frame.input, a.x, 0);
      frame.input.labels = a.labels.data(), frame.input.targets = a.targets.data();
      frame.input.order = a.order.data() + step * a.batch;
      frame.input.dropout_keys = dropout_keys(a, step, dropouts);
      result.targets = count_targets(a, frame.input.order, size, p.program.label_classes);
      scale = loss_scale(a, result.targets);
      frame.input.loss_scale = &scale;
      set_groups(frame.groups, a, step);
      if (step > 0)
        for (ParameterMemory& parameter : frame.parameters) parameter.first_step = false;
    };
    std::vector<PassResult> sums(size_t(end - begin));
    team.run([&](int thread) {
      for (int64_t step = begin; step < end; step++)
        p.pass(team, thread, p.program.first_phase(step > begin), [&] {
          start(step);
          frame.again = step > begin;
          frame.result = &sums[size_t(step - begin)];
        });
    });
    for (int64_t step = begin; step < end; step++) {
      results[size_t(step)].loss = sums[size_t(step - begin)].loss;
      results[size_t(step)].right = sums[size_t(step - begin)].right;
    }
    begin = end;
  }
  return results;
}

void Plan::move_constants(GatherImagesParams& gather, int64_t channels) {
  if (!gather.scale) return;
  std::vector<float> values(gather.scale, gather.scale + channels);
  values.insert(values.end(), gather.shift, gather.shift + channels);
  if (values != constants_.values || !constants_.device.given()) {
    constants_.device = Tensor::empty("plan", "scale", {2, channels});
    copy_bytes(device_, constants_.device.data(), Device::cpu, values.data(), 2 * channels * int64_t(sizeof(float)));
    constants_.values = std::move(values);
  }
  gather.scale = constants_.device.data(), gather.shift = gather.scale + channels;
}

std::vector<StepResult> Plan::train_recorded(const TrainingArguments& a) {
  std::lock_guard<std::mutex> lock(mutex_);
  const DeviceScope scope(device_);
  const int64_t images = a.order.count(), steps = (images + a.batch - 1) / a.batch;
  const int64_t dropouts = steps > 0 ? int64_t(a.dropout_keys.size()) / steps : 0;  // of a step
  for (int64_t size : {std::min(a.batch, images), images % a.batch})
    if (size > 0) check(a, training_, prepared(size, true).program.label_classes);
  std::vector<StepResult> results;
  const Tensor values = to_device(a.targets, device_);
  std::vector<ParameterMemory> parameters = a.parameters;
  for (size_t p = 0; p < parameters.size(); p++) parameters[p].group = training_.parameters[p].group;
  for (int64_t begin = 0; begin < steps;) {
    const int64_t size = std::min(a.batch, images - begin * a.batch);
    const int64_t end = size < a.batch ? steps : begin + (images - begin * a.batch) / a.batch;
    Prepared& p = prepared(size, true);
    Recorded& recorded = p.recorded_for(precision_);
    Frame& frame = *p.frame;
    frame.parameters = parameters;
    frame.groups = groups_of(a, begin);
    set_images(frame.input, a.x, 0);
    move_constants(frame.input.gather, input_[0]);
    frame.input.targets = values.data();
    std::vector<int64_t> targets;
    const auto record = [&](int64_t step) {
      const int64_t* order = a.order.data() + (begin + step) * a.batch;
      targets.push_back(count_targets(a, order, size, p.program.label_classes));
      return Record{order, a.labels.data(), a.x.gather.key, dropout_keys(a, begin + step, dropouts),
                    loss_scale(a, targets.back())};
    };
    recorded.begin(end - begin, dropouts, record, [&](int64_t step) { return groups_of(a, begin + step); });
    for (int64_t step = begin; step < end; step++) recorded.run();
    const std::vector<PassResult> sums = recorded.results();
    for (size_t step = 0; step < sums.size(); step++)
      results.push_back({sums[step].loss, sums[step].right, targets[step]});
    for (ParameterMemory& parameter : parameters) parameter.first_step = false;
    begin = end;
  }
  return results;
}

Tensor Plan::forward_recorded(const ImageSource& x, int64_t batch, std::vector<ParameterMemory> parameters) {
  std::lock_guard<std::mutex> lock(mutex_);
  const DeviceScope scope(device_);
  const int64_t images = x.shape()[0];
  std::vector<int64_t> order(static_cast<size_t>(images));
  std::iota(order.begin(), order.end(), int64_t(0));
  Tensor y;
  for (int64_t begin = 0; begin < images || !y.given();) {
    const int64_t size = std::min(batch, images - begin), steps = size < batch ? 1 : (images - begin) / batch;
    Prepared& p = prepared(std::max<int64_t>(size, 1), false);
    if (!y.given()) {
      Shape shape = p.program.output;
      shape.insert(shape.begin(), images);
      y = Tensor::empty("predict", "y", shape);
    }
    if (size <= 0) break;
    if (!p.y.given()) {
      Shape shape = p.program.output;
      shape.insert(shape.begin(), size);
      p.y = Tensor::empty("predict", "y", shape);
    }
    Recorded& recorded = p.recorded_for(precision_);
    Frame& frame = *p.frame;
    frame.parameters = parameters;
    set_images(frame.input, x, 0);
    move_constants(frame.input.gather, input_[0]);
    frame.input.y = p.y.data();
    const int64_t floats = p.y.count();
    recorded.begin(
        steps, 0,
        [&](int64_t step) { return Record{order.data() + begin + step * size, nullptr, x.gather.key, nullptr, 1.f}; },
        [](int64_t) { return std::vector<GroupStep>(); });
    for (int64_t step = 0; step < steps; step++) {
      recorded.run();
      copy_floats(y.data() + begin * (floats / size) + step * floats, p.y.data(), floats);
    }
    begin += steps * size;
  }
  return y;
}

Tensor Plan::forward(const ImageSource& x, int64_t batch, std::vector<ParameterMemory> parameters) {
  if (device_ == Device::cuda) return forward_recorded(x, batch, std::move(parameters));
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t images = x.shape()[0];
  Shape shape = x.shape();
  Tensor y;
  Prepared* last = nullptr;
  for (int64_t begin = 0; begin < images || !y.given(); begin += batch) {
    const int64_t size = std::min(batch, images - begin);
    Prepared& p = prepared(std::max<int64_t>(size, 1), false);
    if (!y.given()) {
      shape = p.program.output;
      shape.insert(shape.begin(), images);
      y = Tensor::empty("predict", "y", shape);
    }
    if (size <= 0) break;
    const int64_t threads = std::min<int64_t>(num_threads(), p.program.shards());
    // The weights are prepared once per call. A program without a frame is new: it may lie where `last` was.
    const int from = &p == last && p.frame ? Builder::kFirstPhase : 0;
    Frame& frame = p.frame_for(int(threads));
    frame.parameters = parameters;
    frame.input.order = nullptr;
    set_images(frame.input, x, begin);
    frame.input.y = y.data() + begin * (y.count() / images);
    last = &p;
    if (p.program.shards() == 1) {  // one block: the loops of its kernels are shared out instead
      for (int phase = from; phase < p.program.phases(); phase++) {
        frame.run_before(phase);
        frame.run_phase(phase, 0, 1);
      }
      continue;
    }
    Team team{int(threads)};
    team.run([&](int thread) { p.pass(team, thread, from, [] {}); });
  }
  return y;
}

std::string Plan::describe(int64_t images, bool training) {
  std::lock_guard<std::mutex> lock(mutex_);
  Prepared& p = prepared(images, training);
  std::vector<double> means = p.frame ? p.frame->profile : std::vector<double>{};
  for (double& seconds : means) seconds /= double(std::max<int64_t>(1, p.profiled_passes));
  return p.program.describe(means);
}

void Plan::profile(int64_t images, bool training) {
  std::lock_guard<std::mutex> lock(mutex_);
  Prepared& p = prepared(images, training);
  p.frame_for(num_threads()).start_profile();
  p.profiled_passes = 0;
}

int64_t Plan::kernel_nodes(int64_t images, bool training) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Prepared& p = prepared(images, training);
  return p.recorded ? p.recorded->kernel_nodes() : 0;
}

int64_t Plan::memory_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t bytes = 0;
  for (const auto& [key, prepared] : programs_)
    if (prepared->frame) bytes += prepared->frame->bytes();
  return bytes;
}

}  // namespace convcore::plan

#include "plan/recorded.h"

#include <algorithm>
#include <cstring>

#include "core/cuda_plugin.h"
#include "ops/kernels.h"

namespace convcore::plan {
namespace {

constexpr int64_t kWord = 8;  // records and their parts begin at multiples of it
int64_t whole_words(int64_t bytes) { return (bytes + kWord - 1) / kWord * kWord; }

int64_t size_of_factors(const std::vector<GroupStep>& groups) {  // of the one rule that all groups follow
  if (groups.empty()) return 0;
  return std::visit([](const auto& factors) { return int64_t(sizeof factors); }, groups.front().factors);
}

template <typename T>
const T* at(const std::shared_ptr<void>& block, int64_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const unsigned char*>(block.get()) + bytes);
}

// Memory of at least `bytes`, which grows.
void grow(std::shared_ptr<void>& block, int64_t& has, int64_t bytes) {
  if (has >= bytes && block) return;
  block.reset();
  block = allocate_on(Device::cuda, size_t(bytes));
  has = bytes;
}

}  // namespace

Recorded::~Recorded() { forget(); }

void Recorded::forget() {
  if (graph_) cuda::api().graph_free(graph_);
  graph_ = nullptr;
  warm_ = false;
}

void Recorded::start(int64_t steps, int64_t dropouts) {
  const int64_t images = frame_.program().images(), parameters = int64_t(frame_.parameters.size());
  Places p{};
  const auto part = [&](int64_t bytes) {
    const int64_t begin = p.size;
    p.size += whole_words(bytes);
    return begin;
  };
  p.order = part(images * kWord), p.labels = part(images * kWord);
  p.gather_key = part(sizeof(RandomKey)), p.dropout_keys = part(dropouts * int64_t(sizeof(RandomKey)));
  p.dropouts = dropouts;
  p.loss_scale = part(sizeof(float)), p.factors = part(parameters * size_of_factors(frame_.groups));
  places_ = p;
  steps_ = steps, next_ = 0;
  host_.assign(size_t(steps * p.size), 0);
}

void Recorded::write(int64_t step, const Record& record, const std::vector<GroupStep>& groups) {
  unsigned char* to = host_.data() + step * places_.size;
  const int64_t images = frame_.program().images();
  const auto put = [&](int64_t place, const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to + place, from, size_t(bytes));
  };
  put(places_.order, record.order, images * kWord);
  for (int64_t i = 0; record.labels && i < images; i++)
    put(places_.labels + i * kWord, record.labels + record.order[i], kWord);
  put(places_.gather_key, &record.gather_key, sizeof(RandomKey));
  put(places_.dropout_keys, record.dropout_keys, places_.dropouts * int64_t(sizeof(RandomKey)));
  put(places_.loss_scale, &record.loss_scale, sizeof(float));
  for (size_t p = 0; p < frame_.parameters.size(); p++) {
    const ParameterMemory& memory = frame_.parameters[p];
    if (memory.group < 0 || size_t(memory.group) >= groups.size()) continue;
    const int64_t place = places_.factors + int64_t(p) * size_of_factors(frame_.groups);
    std::visit(
        [&](auto factors) {
          if constexpr (std::is_same_v<decltype(factors), SgdFactors>)
            factors.first_step = memory.first_step && step == 0;
          put(place, &factors, sizeof(factors));
        },
        groups[size_t(memory.group)].factors);
  }
}

void Recorded::upload() {
  grow(records_, records_bytes_, int64_t(host_.size()));
  grow(current_, current_bytes_, places_.size);
  if (!counter_) counter_ = allocate_on(Device::cuda, kWord);
  grow(rows_, rows_count_, steps_ * int64_t(sizeof(PassResult)));
  copy_bytes(Device::cuda, records_.get(), Device::cpu, host_.data(), int64_t(host_.size()));
  clear_bytes(counter_.get(), kWord);
  PassInput& in = frame_.input;
  in.order = at<int64_t>(current_, places_.order);
  in.batch_labels = at<int64_t>(current_, places_.labels);
  in.gather_key = at<RandomKey>(current_, places_.gather_key);
  in.dropout_keys = at<RandomKey>(current_, places_.dropout_keys);
  in.loss_scale = at<float>(current_, places_.loss_scale);
  for (size_t p = 0; p < frame_.parameters.size(); p++)
    frame_.parameters[p].factors = at<char>(current_, places_.factors + int64_t(p) * size_of_factors(frame_.groups));
  frame_.factors = at<char>(current_, places_.factors);
  frame_.device_results = {static_cast<const int64_t*>(counter_.get()), static_cast<double*>(rows_.get())};
  frame_.again = false;
  frame_.run_host();
  std::vector<uint64_t> now = signature();
  if (now == signature_) return;
  forget();
  signature_ = std::move(now);
}

// All that the kernels of a graph are given by value and that the caller may change.
std::vector<uint64_t> Recorded::signature() const {
  std::vector<uint64_t> all;
  const auto add = [&](const void* p) { all.push_back(uint64_t(reinterpret_cast<uintptr_t>(p))); };
  const PassInput& in = frame_.input;
  for (const void* p : {static_cast<const void*>(in.floats), static_cast<const void*>(in.bytes),
                        static_cast<const void*>(in.targets), static_cast<const void*>(in.y),
                        static_cast<const void*>(in.gather.scale), static_cast<const void*>(in.gather.shift)})
    add(p);
  all.push_back(uint64_t(in.gather.pad) * 2 + in.gather.flip);
  add(records_.get()), add(current_.get()), add(rows_.get());
  all.push_back(uint64_t(places_.size));
  for (const ParameterMemory& p : frame_.parameters) {
    add(p.data), add(p.grad);
    for (const float* state : p.state) add(state);
  }
  for (const GroupStep& group : frame_.groups) {
    uint32_t bits;
    std::memcpy(&bits, &group.max_norm, sizeof bits);
    all.push_back(uint64_t(bits) << 8 | group.factors.index());
  }
  all.push_back(uint64_t(frame_.precision));
  return all;
}

void Recorded::pass() {
  current_kernels().step.load(places_.size, records_.get(), static_cast<int64_t*>(counter_.get()), current_.get());
  for (int phase = 0; phase < frame_.program().phases(); phase++) {
    frame_.run_before(phase);
    frame_.run_phase(phase, 0, 1);
  }
}

void Recorded::run() {
  const cuda::Api& api = cuda::api();
  api.set_precision(frame_.precision);
  if (!warm_) {
    pass();
    cuda::check(api.take_error());
    warm_ = frame_.again = true;
    next_++;
    return;
  }
  if (next_++ == 0) frame_.run_once_only();  // the weights may be others
  frame_.again = true;
  if (!graph_) {
    cuda::check(api.capture_begin());
    try {
      pass();
    } catch (...) {
      api.capture_end(&graph_);
      forget();
      throw;
    }
    cuda::check(api.capture_end(&graph_));
    cuda::check(api.take_error());
    kernel_nodes_ = api.graph_kernels(graph_);
  }
  cuda::check(api.graph_launch(graph_));
}

std::vector<PassResult> Recorded::results() const {
  std::vector<PassResult> rows(static_cast<size_t>(steps_));
  static_assert(sizeof(PassResult) == 2 * sizeof(double));
  copy_bytes(Device::cpu, rows.data(), Device::cuda, rows_.get(), steps_ * int64_t(sizeof(PassResult)));
  return rows;
}

}  // namespace convcore::plan

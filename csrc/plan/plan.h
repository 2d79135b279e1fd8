// The planned network: programs for the sizes of batches that come, and the calls that run them.
//
// One call trains many steps: forward, loss, backward and update of each, all inside one team of threads. Nothing is
// allocated once the first steps of a size have run. Calls from several threads wait for each other: a program has one
// memory.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/array.h"
#include "plan/graph.h"
#include "plan/program.h"

namespace convcore::plan {

// The optimizer's settings for one group of parameters.
struct GroupSettings {
  std::variant<SgdParams, AdamParams, RmspropParams, AdagradParams> rule;  // `step` is that of the first of the steps
  double max_norm = 0;
};

// A data set, or images: float32 or uint8, and what becomes of each on the way into the network.
struct ImageSource {
  Tensor floats;
  Array<uint8_t> bytes;
  GatherImagesParams gather;
  const Shape& shape() const { return bytes.given() ? bytes.shape() : floats.shape(); }
};

struct TrainingArguments {
  ImageSource x;      // (N, ...): the data set
  LabelArray labels;  // (N,): either these,
  Tensor targets;     // (N, ...) as the output: or these, as the loss takes them (values, or shares of classes)
  LabelArray order;   // (steps * batch or fewer,): the images of each step, one after the other
  int64_t batch;      // images of a step; the last one has what is left
  int64_t ignore_index;
  bool mean;                            // the loss is a mean over the targets, not a sum
  std::vector<RandomKey> dropout_keys;  // for each step those of all dropouts
  std::vector<GroupSettings> groups;
  std::vector<ParameterMemory> parameters;
};

struct StepResult {
  double loss, right;  // sums over the targets; right answers
  int64_t targets;     // labels that are not ignored, or values
};

class Plan {
 public:
  // The programs are for the current device. `training`: with a loss as its last node; `inference`: the same network
  // without. Both number parameters alike. `without_rules`: fusions that are left out (rules.h), for comparison.
  // `precision`: of the products on a GPU, as cuda/device.cuh numbers them.
  Plan(Graph training, Graph inference, Shape input, std::vector<std::string> without_rules = {}, int precision = 0);
  ~Plan();

  std::vector<StepResult> train(const TrainingArguments&);
  // y (N, ...) = the network's output, in evaluation mode, `batch` images at a time.
  Tensor forward(const ImageSource& x, int64_t batch, std::vector<ParameterMemory> parameters);

  // Makes the program for batches of this size, if it is not there yet. Throws std::invalid_argument "plan: ..." when
  // the network cannot be planned.
  void prepare(int64_t images, bool training);
  std::string describe(int64_t images, bool training);
  // From now on, measures the steps of this program, for describe: the means of the passes since.
  void profile(int64_t images, bool training);
  int64_t memory_bytes() const;  // of all programs
  // Kernels of the recorded step or pass; 0: not recorded yet, or not on a GPU.
  int64_t kernel_nodes(int64_t images, bool training);
  const std::vector<ParameterInfo>& parameters() const { return inference_.parameters; }
  Device device() const { return device_; }

 private:
  struct Prepared;
  Prepared& prepared(int64_t images, bool training);
  std::vector<StepResult> train_recorded(const TrainingArguments&);
  Tensor forward_recorded(const ImageSource& x, int64_t batch, std::vector<ParameterMemory> parameters);

  const Graph training_, inference_;
  const Shape input_;
  const std::vector<std::string> without_rules_;
  const Device device_;
  const int precision_;
  struct Constants {  // on a GPU: the scale and shift of the images, there as long as they stay the same
    std::vector<float> values;
    Tensor device;
  };
  Constants constants_;
  void move_constants(GatherImagesParams& gather, int64_t channels);
  std::map<std::pair<int64_t, bool>, std::unique_ptr<Prepared>> programs_;
  mutable std::mutex mutex_;
};

}  // namespace convcore::plan

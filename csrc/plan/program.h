// The program of a training step, or of a forward pass: what runs, in which order, on which memory.
//
// A program works on a batch of images. Its steps come in three kinds:
//
//   block step    on some images at a time (a block), by one thread: nearly everything
//   task step     cut into independent tasks, dealt out to the threads: what is per weight and not per image
//   serial step   small sums over all images, by one thread, between two phases
//
// and are put into phases, with a barrier of all threads between two of them. Within a phase a thread takes a block of
// images through all block steps before it takes the next one, so that what one step leaves is in the cache when the
// next one reads it: this is where separate, simple kernels run as fast as fused ones. A step goes into the earliest
// phase where all it reads is there: what was made for the same images may be made in the same phase, what is a sum
// over all images must come from a phase before. A network without batch norm is one phase forwards and backwards.
//
// Values (activations and gradients) that only one phase touches live in a buffer of the thread, as large as a block;
// the others in an arena for the whole batch. Values whose lives do not overlap share memory.
//
// The same bits at any number of threads: images are cut into shards and blocks by the shapes alone, sums are kept per
// shard and added in the order of the shards.
//
// On a GPU the same steps start kernels on its stream: one shard, one block of all images, nothing local. There they
// must read and write nothing through their pointers themselves (plan/recorded.h).
#pragma once
#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/array.h"
#include "ops/gather_images.h"
#include "ops/optimizer.h"
#include "ops/optimizer_many.h"

namespace convcore::plan {

// A block of images, and who works on it.
struct Block {
  int64_t begin, end;  // images of the batch
  int64_t shard;
  bool first, last;  // block of its shard that comes: sums begin and end here
  int thread;
  int64_t count() const { return end - begin; }
};

// An activation or gradient of the network: an array per image. Everything is counted in floats.
struct Value {
  Shape shape;  // of one image: (C, H, W) or (features)
  Layout layout = Layout::row_major;
  int64_t floats;  // of one image
  int storage;     // whose memory it uses: its own index, or that of the value it was made from in place
  std::string name;
};
using ValueId = int;

// Memory of a fixed size that lives as long as the program.
using BufferId = int;
enum class Per { program, shard, thread };

class Frame;
using BlockWork = std::function<void(const Frame&, const Block&)>;
using TaskWork = std::function<void(const Frame&, int64_t task, int thread)>;
using SerialWork = std::function<void(const Frame&)>;

class Program {
 public:
  explicit Program(int64_t images) : images_(images), device_(current_device()) {}

  // ---- building ----

  ValueId value(std::string name, Shape shape, Layout layout = Layout::row_major);
  // Another name for the memory of `of`: written in place, or seen in another shape.
  ValueId alias(ValueId of, std::string name, Shape shape, Layout layout);
  BufferId buffer(Per per, int64_t floats);

  // Each returns the phase that the step went into. `after`: the first phase it may go into.
  int block(std::string text, const std::vector<ValueId>& reads, const std::vector<ValueId>& writes, BlockWork work,
            int after = 0);
  // `reads` are read whole, so they must come from earlier phases. `cost` is that of one task, in multiply-adds.
  // `once`: what they leave is kept up to date by other steps, so they run in the first pass of several alone.
  int tasks(std::string text, const std::vector<ValueId>& reads, int after, int64_t count, double cost, TaskWork work,
            bool once = false);
  // Before the blocks and tasks of `phase`, which it returns.
  int serial(std::string text, const std::vector<ValueId>& reads, int phase, SerialWork work);
  // On a GPU: what the host does before the first of several passes, with the parameters of the frame.
  void host(SerialWork work) { host_.push_back(std::move(work)); }

  // Cuts the images into at most `shards` shards (0: as many as there are blocks), and gives every value its place.
  // Nothing is added afterwards.
  void finish(int64_t shards);

  // ---- running ----

  Shape output;               // of one image: what a forward pass leaves
  int64_t label_classes = 0;  // the labels of the loss are less; 0: it takes none

  int64_t images() const { return images_; }
  Device device() const { return device_; }
  const Value& operator[](ValueId id) const { return values_[size_t(id)]; }
  int phase_of(ValueId id) const { return uses_[size_t(values_[size_t(id)].storage)].made; }
  int phases() const { return int(phases_.size()); }
  int first_phase(bool again) const;  // `again`: of a pass that is not the first
  int64_t shards() const { return shards_; }
  int64_t shard_begin(int64_t shard) const { return images_ * std::min(shard, shards_) / shards_; }
  // What runs, as text; with the milliseconds of each step from a profile.
  std::string describe(const std::vector<double>& profile = {}) const;

 private:
  friend class Frame;

  struct Use {                                   // of a storage
    int made = 0, first = INT32_MAX, last = -1;  // phases: of the last write, of the first and the last access
    int first_step = INT32_MAX, last_step = -1;  // block steps, of any phase
    bool whole = false;                          // read by something else than block steps
    int tasks = -1;                              // the last phase whose tasks read it, beside the blocks of others
    bool local = false;
    int64_t offset = 0;  // floats: in the arena, or in the block buffer of a thread
  };
  struct BlockStep {
    std::string text;
    BlockWork work;
    std::vector<ValueId> reads, writes;
    int number;  // of the step in the program, for the profile
  };
  struct TaskStep {
    std::string text;
    TaskWork work;
    int number;
    int64_t count;
    double cost;  // of one task, in any unit that all of them share
    bool once;    // in the first pass alone
  };
  struct SerialStep {
    std::string text;
    SerialWork work;
  };
  struct Phase {
    std::vector<SerialStep> before;
    std::vector<BlockStep> blocks;
    std::vector<TaskStep> tasks;
    int64_t block_images = 1;    // at most, of a block
    bool backwards = false;      // through the blocks
    std::vector<ValueId> whole;  // values of the whole batch that its block steps touch, in the order they do
  };
  struct BufferPlace {
    Per per;
    int64_t floats, offset;
  };

  Phase& phase(int index);
  void touch(ValueId id, int phase, int step, bool write);
  void cut_blocks(int64_t shards);
  int64_t pack_local(int phase, int64_t images);  // places the values of a block of a phase; returns their floats
  void place_values();
  void list_whole_values();
  void place_buffers();

  int64_t images_, shards_ = 1;
  Device device_;             // the current one when the program was made
  std::deque<Value> values_;  // references to them stay valid
  std::vector<Use> uses_;
  std::vector<BufferPlace> buffers_;
  std::vector<Phase> phases_;
  std::vector<SerialWork> host_;
  int steps_ = 0;
  int64_t arena_floats_ = 0, block_floats_ = 0;                        // of the arena; of the block buffer of a thread
  int64_t program_floats_ = 0, shard_floats_ = 0, thread_floats_ = 0;  // of the buffers
};

// A parameter, by its number in the graph, and what the optimizer keeps of it.
struct ParameterMemory {
  float *data = nullptr, *grad = nullptr;
  float* state[3] = {};  // what the rule of the optimizer keeps, in the order of its kernel's arguments
  bool first_step = false;
  int group = -1;                 // of the optimizer
  const void* factors = nullptr;  // on a GPU: those of the group, in device memory
};

// The step of the optimizer on the parameters of one group.
struct GroupStep {
  // first_step of SGD is the parameter's own
  std::variant<SgdFactors, AdamFactors, RmspropFactors, AdagradFactors> factors;
  float max_norm;  // of the rows of those that ParameterInfo names
};

struct PassInput {
  const float* floats = nullptr;   // the data set, or the images themselves: either these,
  const uint8_t* bytes = nullptr;  // or these
  GatherImagesParams gather;       // what becomes of an image on the way, with this key:
  const RandomKey* gather_key = nullptr;
  const int64_t* labels = nullptr;          // of the data set
  const int64_t* batch_labels = nullptr;    // on a GPU: those of the images, one after the other
  const float* targets = nullptr;           // or the values that the outputs shall have
  const int64_t* order = nullptr;           // which images of the data set these are; null: the first ones, in order
  float* y = nullptr;                       // (images, ...): where the output goes, or null
  const RandomKey* dropout_keys = nullptr;  // one for each dropout, by its number
  const float* loss_scale = nullptr;        // of the gradient: one over the number of targets for a mean
};

struct PassResult {
  double loss = 0, right = 0;  // sums over the images
};

// Where a step on a GPU leaves its PassResult: in the row before *counter (ops/step.h).
struct DeviceResults {
  const int64_t* counter = nullptr;
  double* rows = nullptr;
};

// Adds the time until its end to `seconds`, unless that is null.
class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {
    if (seconds_) start_ = Clock::now();
  }
  ~Stopwatch() {
    if (seconds_) *seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double* seconds_;
  Clock::time_point start_;
};

// The memory of a program, and the arguments of the running pass.
class Frame {
 public:
  Frame(const Program& program, int threads);

  // The images of a block; of a value that was placed whole, all of them.
  float* at(ValueId id, const Block& block) const {
    const Value& value = program_.values_[size_t(id)];
    const Program::Use& use = program_.uses_[size_t(value.storage)];
    return use.local ? blocks_ + block.thread * program_.block_floats_ + use.offset
                     : arena_ + use.offset + block.begin * value.floats;
  }
  float* whole(ValueId id) const {
    return arena_ + program_.uses_[size_t(program_.values_[size_t(id)].storage)].offset;
  }
  // `index`: the shard or the thread.
  float* buffer(BufferId id, int64_t index = 0) const;
  int64_t shard_stride() const {
    return program_.shard_floats_;
  }  // floats from the buffer of a shard to the next one's

  // The steps of a phase that fall to one thread of `threads`; `before`: its serial steps.
  void run_phase(int phase, int thread, int threads) const;
  void run_before(int phase) const;
  void run_host() const {
    for (const SerialWork& work : program_.host_) work(*this);
  }
  // The steps that make what other steps keep up to date from then on.
  void run_once_only() const;

  int threads() const { return threads_; }
  int64_t bytes() const { return bytes_; }
  const Program& program() const { return program_; }

  // One step of the optimizer on `count` values of a parameter, from `begin` on.
  void update(int group, const ParameterMemory&, int64_t begin, int64_t count) const;
  // One step on all parameters of a table, in device memory.
  void update_many(const OptimizerPiece* pieces, int64_t count, int64_t blocks) const;
  // Scales rows down to the norm that their group allows.
  void limit_norms(int group, const ParameterMemory&, int64_t first_row, int64_t rows, int64_t columns) const;

  // Set by the caller before a pass.
  bool again = false;  // the pass before this one ran on this frame, with the parameters as it left them
  std::vector<ParameterMemory> parameters;
  std::vector<GroupStep> groups;
  PassInput input;
  PassResult* result = nullptr;
  int precision = 0;  // on a GPU: of its products (cuda/device.cuh)
  DeviceResults device_results;
  const void* factors = nullptr;  // on a GPU: of all parameters, those of one rule
  // Seconds that the first thread spent in each step; the last one is for waiting. Empty: not measured.
  mutable std::vector<double> profile;
  void start_profile() { profile.assign(size_t(program_.steps_) + 1, 0.0); }

 private:
  struct Order {  // in which a thread takes the blocks of a phase
    bool backwards;
    int64_t most;  // images of a block
    int thread;
  };
  Order order_of(int phase, int thread) const;
  Block block(int64_t shard, int64_t number, const Order&) const;  // the one that comes as `number` in its shard
  int64_t blocks_of(int64_t shard, const Order&) const;
  void announce(const Program::Phase&, const Block& next) const;
  void announce_first(int phase, int thread, int64_t first_shard, int64_t end_shard) const;

  const Program& program_;
  const int threads_;
  int64_t bytes_;
  std::shared_ptr<void> memory_;
  float *arena_, *programs_, *shards_, *blocks_, *per_thread_;
};

}  // namespace convcore::plan

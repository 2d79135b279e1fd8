// A program on the GPU as one recorded graph of kernels, replayed for every batch.
//
// A graph is recorded with all its pointers. So what is another one in each step -- which images, their labels, the
// keys of random numbers, the scale of the loss, the factors of the optimizer -- lies in device memory: one record per
// step, all of them copied to the device before the first, and the first kernel of a step moves the next record to
// where the others read it (ops/step.h). Between two steps the host does nothing but launch the graph again.
//
// The first pass runs kernel by kernel: it makes the workspaces as large as they must be. A graph is recorded before
// the second one. When a pointer or a setting that it holds has changed, it is recorded anew.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "plan/program.h"

namespace convcore::plan {

// What is new in a step.
struct Record {
  const int64_t* order;   // (images): the images of the batch, on the host
  const int64_t* labels;  // of the data set, on the host; null: none
  RandomKey gather_key;
  const RandomKey* dropout_keys;
  float loss_scale;
};

class Recorded {
 public:
  explicit Recorded(Frame& frame) : frame_(frame) {}
  ~Recorded();
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  // Prepares `steps` passes with `dropouts` random keys each. The frame holds the parameters and the input, in device
  // memory, but for what is in the records: record(step) gives it, and groups(step) the settings of the optimizer.
  template <typename RecordOf, typename GroupsOf>
  void begin(int64_t steps, int64_t dropouts, const RecordOf& record, const GroupsOf& groups) {
    start(steps, dropouts);
    for (int64_t step = 0; step < steps; step++) write(step, record(step), groups(step));
    upload();
  }
  void run();  // the next pass; returns as soon as its kernels are queued
  // Of all passes since `begin`, when they are done.
  std::vector<PassResult> results() const;

  int64_t kernel_nodes() const { return kernel_nodes_; }  // of the graph; 0: none was recorded yet

 private:
  struct Places {  // bytes from the begin of a record
    int64_t order, labels, gather_key, dropout_keys, dropouts, loss_scale, factors, size;
  };
  void start(int64_t steps, int64_t dropouts);
  void write(int64_t step, const Record&, const std::vector<GroupStep>& groups);
  void upload();
  void pass();
  void forget();
  std::vector<uint64_t> signature() const;

  Frame& frame_;
  Places places_{};
  std::vector<unsigned char> host_;                           // the records
  std::shared_ptr<void> records_, current_, counter_, rows_;  // on the device
  int64_t records_bytes_ = 0, rows_count_ = 0, current_bytes_ = 0, steps_ = 0, next_ = 0, kernel_nodes_ = 0;
  std::vector<uint64_t> signature_;  // of the graph, or of the last pass
  bool warm_ = false;                // a pass with this signature ran
  void* graph_ = nullptr;
};

}  // namespace convcore::plan

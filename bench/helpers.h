// What the bench executables share: data, the check of a result before it is timed, and the counters.
#pragma once
#include <cmath>
#include <functional>
#include <string>

#include "bench/cases.h"
#include "core/array.h"
#include "ops/peak.h"

namespace convcore::bench {

// Numbers in [-1, 1), a pure function of the seed.
Tensor random_tensor(const Shape& shape, uint64_t seed);

// The same images in the order of memory in which a network has them: as a convolution with that many filters leaves
// them.
Tensor as_in_network(const Tensor& images);

// One expected element: a sum made in double precision, and what its rounding error is measured against.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
  }
};

// What is wrong with a result; empty when every element is finite, not all are zero, and the first, the last and one in
// between are what `naive`, which is given the element's index in row-major order, says.
std::string problem_of(const Tensor& result, const std::function<Sum(int64_t)>& naive);

// One thing to be timed, with its data.
struct Job {
  std::function<Tensor()> run;
  std::function<Sum(int64_t)> naive;  // the element of run()'s result at an index, counted in row-major order
  std::string label = "";             // the algorithm
};

// Registers "<name>/threads:1" and the same with all threads. `make` is called when it is the job's turn. The ceiling
// that the job is held against is `limit`: Peak::fma or Peak::memory_copy.
void add_job(const std::string& name, const Cost& cost, Peak limit, std::function<Job()> make);

// The thread counts that are measured: 1 and all.
std::vector<int> thread_counts();

// Sets the number of threads for one scope.
class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// The main function of every bench executable; `add_all` registers.
int run_main(int argc, char** argv, void (*add_all)());

}  // namespace convcore::bench

#include "helpers.h"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "core/random.h"
#include "core/threads.h"
#include "cpu/kernels.h"
#include "ops/conv2d.h"
#include "ops/reorder.h"

namespace convcore::bench {
namespace {

// Winograd's rounding errors included; a dropped or a wrong term is far outside.
constexpr double kTolerance = 3e-5;
constexpr double kPeakSeconds = 0.2, kPeakAgainSeconds = 0.01;

// The best value seen so far in this run: measured well once, and again for a moment before each job, so that a ceiling
// is not low for good because the machine was busy.
double ceiling(Peak limit, int threads) {
  static std::map<std::pair<Peak, int>, double> best;
  const auto known = best.find({limit, threads});
  if (known == best.end()) return best[{limit, threads}] = measure_peak(limit, kPeakSeconds);
  if (limit == Peak::fma) known->second = std::max(known->second, measure_peak(limit, kPeakAgainSeconds));
  return known->second;
}

// The job whose turn it is. It is kept from one call to the next, because Google Benchmark calls several times to find
// out how often to run; the one before is gone, so that not all data is in memory at once.
const Job& current_job(const std::string& name, const std::function<Job()>& make, std::string* problem) {
  static std::string current, current_problem;
  static Job job;
  if (current != name) {
    current = name;
    job = Job{};
    job = make();
    current_problem = problem_of(job.run(), job.naive);
  }
  *problem = current_problem;
  return job;
}

void time_job(benchmark::State& state, const std::string& name, const Cost& cost, Peak limit, int threads,
              const std::function<Job()>& make) {
  const Threads scope(threads);
  std::string problem;
  const Job& job = current_job(name, make, &problem);
  if (!problem.empty()) return state.SkipWithError(problem.c_str());
  const double peak = ceiling(limit, threads);
  job.run();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) benchmark::DoNotOptimize(job.run().data());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double rate = double(state.iterations()) / elapsed.count();
  const bool compute = limit == Peak::fma;
  const double achieved = double(compute ? cost.flops : cost.bytes) * rate;
  state.counters[compute ? "GFLOP/s" : "GB/s"] = 1e-9 * achieved;
  state.counters[compute ? "peak_GFLOP/s" : "peak_GB/s"] = 1e-9 * peak;
  state.counters["peak_share"] = achieved / peak;
  state.SetLabel(job.label);
}

}  // namespace

Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor t = Tensor::empty("bench", "shape", shape);
  const int64_t count = t.count();
  float* data = t.data();
  parallel_for((count + 3) / 4, 40, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      const Philox numbers = philox({seed, 0}, uint64_t(block));
      for (int64_t i = 0; i < 4 && 4 * block + i < count; i++)
        data[4 * block + i] = 2 * uniform_float(numbers.value[i]) - 1;
    }
  });
  return t;
}

Tensor as_in_network(const Tensor& images) {
  const int64_t c = images.size(1);
  const Tensor before = random_tensor({1, c, 4, 4}, 1), w = random_tensor({c, c, 3, 3}, 2);
  const Tensor after = conv2d_forward("conv2d", before, w, {}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1});
  return reorder("bench", images, after.layout());
}

std::string problem_of(const Tensor& in_any_order, const std::function<Sum(int64_t)>& naive) {
  const Tensor result = reorder("bench", in_any_order, Layout::row_major);
  const float* data = result.data();
  const int64_t count = result.count();
  if (!std::all_of(data, data + count, [](float v) { return std::isfinite(v); })) return "the result is not finite";
  if (std::all_of(data, data + count, [](float v) { return v == 0; })) return "the result is zero";
  for (const int64_t i : {int64_t(0), count - 1, count * 5 / 8}) {
    const Sum want = naive(i);
    if (std::fabs(data[i] - want.value) > kTolerance * want.magnitude)
      return "element " + std::to_string(i) + " is wrong: expected " + std::to_string(want.value) + ", got " +
             std::to_string(data[i]);
  }
  return "";
}

std::vector<int> thread_counts() {
  static const int all = num_threads();
  return all == 1 ? std::vector<int>{1} : std::vector<int>{1, all};
}

void add_job(const std::string& name, const Cost& cost, Peak limit, std::function<Job()> make) {
  for (const int threads : thread_counts()) {
    const std::string full_name = name + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(full_name.c_str(),
                                 [=](benchmark::State& state) { time_job(state, name, cost, limit, threads, make); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

Threads::Threads(int count) : before_(num_threads()) { set_num_threads(count); }
Threads::~Threads() { set_num_threads(before_); }

// Waiting threads sleep soon, as under `import convcore` (docs/architecture.md, decision 9). The runtime has read its
// variables by the time main() runs, so the program starts itself again.
static void let_waiting_threads_sleep(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "1000", 1);
  execvp(argv[0], argv);  // returns only when it fails: then the runtime's own setting stays
}

int run_main(int argc, char** argv, void (*add_all)()) {
  let_waiting_threads_sleep(argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("instruction_set", cpu::kernels().isa);
  benchmark::AddCustomContext("compiler", CONVCORE_COMPILER);
  add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace convcore::bench

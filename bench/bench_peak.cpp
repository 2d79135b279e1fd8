// The ceilings of this machine (ops/peak.h), on one thread and on all. The figure is the counter, not the time: that is
// how long the measuring took.
#include <benchmark/benchmark.h>

#include "helpers.h"

namespace convcore::bench {
namespace {

constexpr double kSeconds = 0.5;

void add(Peak peak, int threads) {
  const std::string name = std::string(peak_name(peak)) + "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 const Threads scope(threads);
                                 double best = 0;
                                 for (auto _ : state) best = std::fmax(best, measure_peak(peak, kSeconds));
                                 state.counters[peak_is_bandwidth(peak) ? "GB/s" : "GFLOP/s"] = 1e-9 * best;
                               })
      ->UseRealTime()
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace convcore::bench

int main(int argc, char** argv) {
  using namespace convcore;
  return bench::run_main(argc, argv, [] {
    for (const Peak peak : kPeaks)
      for (const int threads : bench::thread_counts()) bench::add(peak, threads);
  });
}

// parallel_for: every item once, in contiguous ranges, and exceptions come out.
#include "core/threads.h"

#include <atomic>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "helpers.h"
#include "ops/activation.h"
#include "ops/avg_pool2d.h"
#include "ops/batch_norm.h"
#include "ops/dropout.h"
#include "ops/max_pool2d.h"

namespace convcore {
namespace {

using test::message_of;
using test::Threads;

constexpr int64_t kMuchWork = 1 << 30;  // per item: always worth a thread

std::vector<std::pair<int64_t, int64_t>> ranges_of(int64_t count, int64_t work) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  std::mutex mutex;
  parallel_for(count, work, [&](int64_t begin, int64_t end) {
    std::lock_guard<std::mutex> lock(mutex);
    ranges.push_back({begin, end});
  });
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST_CASE("parallel_for runs every item once, at any number of threads") {
  for (int threads : {1, 2, 3, 8}) {
    Threads scope(threads);
    for (int64_t count : {1, 2, 3, 7, 8, 9, 100, 1001}) {
      const auto ranges = ranges_of(count, kMuchWork);
      REQUIRE(int64_t(ranges.size()) == std::min<int64_t>(threads, count));
      int64_t next = 0, longest = 0, shortest = count;
      for (auto [begin, end] : ranges) {
        REQUIRE(begin == next);
        next = end;
        longest = std::max(longest, end - begin);
        shortest = std::min(shortest, end - begin);
      }
      REQUIRE(next == count);
      REQUIRE(longest - shortest <= 1);
    }
  }
}

TEST_CASE("parallel_for runs nothing for no items") {
  CHECK(ranges_of(0, kMuchWork).empty());
  CHECK(ranges_of(-1, kMuchWork).empty());
}

TEST_CASE("parallel_for keeps little work on the calling thread") {
  Threads scope(4);
  std::thread::id id;
  parallel_for(10, 1, [&](int64_t, int64_t) { id = std::this_thread::get_id(); });
  CHECK((id == std::this_thread::get_id()));
  CHECK(ranges_of(10, 1).size() == 1);
  CHECK(ranges_of(10, 0).size() == 1);
}

TEST_CASE("parallel_for does not overflow on huge work") {
  Threads scope(2);
  CHECK(ranges_of(1000, INT64_MAX).size() == 2);
}

TEST_CASE("parallel_for inside parallel_for runs on its own thread") {
  Threads scope(3);
  std::atomic<int> items{0};
  parallel_for(3, kMuchWork, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const auto outer = std::this_thread::get_id();
      parallel_for(10, kMuchWork,
                   [&](int64_t b, int64_t e) { items += std::this_thread::get_id() == outer ? int(e - b) : 1000; });
    }
  });
  CHECK(items == 30);
}

// The gradients of a few layers, each of which uses parallel_for.
std::vector<Tensor> some_gradients(Layout layout) {
  const Tensor x = reorder("test", test::random_tensor({6, 20, 31, 33}, 1), layout);
  const WindowAxis pair{2, 2, 0, 0, 1}, wide{3, 2, 1, 1, 1};
  std::vector<Tensor> all;
  for (const WindowAxis& w : {pair, wide}) {
    const PoolWindows windows{w, w};
    const MaxPool2dResult y = max_pool2d_forward("max_pool2d", x, windows, false, true);
    const AvgPool2dParams params{windows, false, true, {}};
    all.push_back(max_pool2d_backward("max_pool2d", y.y, x.shape(), {}, y.indices, windows, false));
    all.push_back(avg_pool2d_backward("avg_pool2d", avg_pool2d_forward("avg_pool2d", x, params), x.shape(), params));
  }
  const BatchNormResult y = batch_norm_forward(x, {}, {}, {}, {}, {true, 0.1, 1e-5});
  all.push_back(batch_norm_backward(y.y, x, {}, {}, {}, {true, 0.1, 1e-5}, y.saved, true, true, true).dx);
  all.push_back(activation_backward(Activation::relu, y.y, x, y.y, {}));
  all.push_back(dropout_forward(x, {0.5, {1, 2}}));
  all.push_back(reorder("test", x, layout == Layout::row_major ? Layout::channels_last : Layout::row_major));
  return all;
}

TEST_CASE("ops compute the same inside a parallel region of the caller, several at a time") {
  Threads scope(3);
  for (Layout layout : {Layout::row_major, Layout::channels_last}) {
    const std::vector<Tensor> want = some_gradients(layout);
    std::vector<std::vector<Tensor>> got(4);
#pragma omp parallel for num_threads(4) schedule(static, 1)
    for (size_t t = 0; t < got.size(); t++) got[t] = some_gradients(layout);
    for (const std::vector<Tensor>& each : got)
      for (size_t i = 0; i < want.size(); i++) test::check_same_bits(each[i], want[i]);
  }
}

TEST_CASE("an exception comes out of parallel_for, and the other ranges finish") {
  for (int threads : {1, 3}) {
    Threads scope(threads);
    std::atomic<int64_t> done{0};
    CHECK_THROWS_AS(parallel_for(3, kMuchWork,
                                 [&](int64_t begin, int64_t end) {
                                   if (begin == 0) throw std::bad_alloc();
                                   done += end - begin;
                                 }),
                    std::bad_alloc);
    CHECK(done == (threads == 1 ? 0 : 2));
  }
}

TEST_CASE("set_num_threads") {
  Threads scope(5);
  CHECK(num_threads() == 5);
  CHECK(message_of([] { set_num_threads(0); }) == "set_num_threads: count is out of range: expected at least 1, got 0");
  CHECK(message_of([] { set_num_threads(int64_t(1) << 32); }) ==
        "set_num_threads: count is out of range: expected at most 1024, got 4294967296");
  CHECK(num_threads() == 5);
}

}  // namespace
}  // namespace convcore

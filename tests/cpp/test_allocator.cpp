// Blocks from the cache: aligned, reused, counted.
#include "core/allocator.h"

#include <cstring>
#include <new>
#include <thread>

#include "helpers.h"

namespace convcore {
namespace {

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % kAlignment == 0; }

TEST_CASE("allocate gives aligned, writeable, separate blocks") {
  std::vector<std::shared_ptr<void>> blocks;
  for (size_t bytes : {0, 1, 63, 64, 65, 1000, 4097, 1 << 20}) {
    blocks.push_back(allocate(bytes));
    REQUIRE(aligned(blocks.back().get()));
    std::memset(blocks.back().get(), int(blocks.size()), bytes);
  }
  CHECK(static_cast<unsigned char*>(blocks[5].get())[999] == 6);
}

TEST_CASE("allocate hands back the block that was freed last") {
  auto block = allocate(5000);
  const void* address = block.get();
  block.reset();
  block = allocate(5000);
  CHECK(block.get() == address);
  block.reset();
  block = allocate(5010);  // nearly equal sizes share blocks
  CHECK(block.get() == address);
}

TEST_CASE("a steady loop asks the system for nothing") {
  const auto step = [] {
    auto a = allocate(3000), b = allocate(70000);
    auto c = allocate(3000);
  };
  step();
  const size_t requests = allocator_stats().system_requests;
  for (int i = 0; i < 100; i++) step();
  CHECK(allocator_stats().system_requests == requests);
}

TEST_CASE("allocator_stats counts bytes, and release_cache empties the cache") {
  const AllocatorStats before = allocator_stats();
  auto block = allocate(1000000);
  const size_t bytes = allocator_stats().live_bytes - before.live_bytes;
  CHECK(bytes >= 1000000);
  CHECK(bytes <= 1000000 + 1000000 / 8);  // rounding up costs at most an eighth
  block.reset();
  CHECK(allocator_stats().live_bytes == before.live_bytes);
  CHECK(allocator_stats().cached_bytes >= bytes);
  release_cache();
  CHECK(allocator_stats().cached_bytes == 0);
}

TEST_CASE("ScratchBlock lives for one scope and comes from the same cache") {
  const size_t live = allocator_stats().live_bytes;
  const void* address = nullptr;
  {
    ScratchBlock scratch(5000);
    CHECK(aligned(scratch.data()));
    CHECK(allocator_stats().live_bytes > live);
    std::memset(scratch.data(), 1, 5000);
    address = scratch.data();
  }
  CHECK(allocator_stats().live_bytes == live);
  CHECK(allocate(5000).get() == address);
}

TEST_CASE("impossible sizes are std::bad_alloc") {
  CHECK_THROWS_AS(allocate(SIZE_MAX), std::bad_alloc);
  CHECK_THROWS_AS(allocate(size_t(1) << 60), std::bad_alloc);
  const size_t live = allocator_stats().live_bytes;
  CHECK_THROWS_AS(allocate(size_t(1) << 60), std::bad_alloc);
  CHECK(allocator_stats().live_bytes == live);
}

TEST_CASE("with CONVCORE_POISON=1 blocks are full of NaN, reused ones too") {
  const char* poison = std::getenv("CONVCORE_POISON");
  if (!poison || std::string(poison) != "1") return;
  for (int round = 0; round < 2; round++) {
    Tensor t = Tensor::empty("test", "t", {100});
    for (int i = 0; i < 100; i++) REQUIRE(std::isnan(t.data()[i]));
    std::fill(t.data(), t.data() + 100, 1.0f);
  }
}

TEST_CASE("thread_workspace stays, per slot and per thread") {
  void* first = thread_workspace(0, 1000);
  void* second = thread_workspace(1, 1000);
  CHECK(aligned(first));
  CHECK(first != second);
  CHECK(thread_workspace(0, 10) == first);
  CHECK(aligned(thread_workspace(0, 100000)));
  first = thread_workspace(0, 100000);
  void* other = nullptr;
  std::thread([&] { other = thread_workspace(0, 1000); }).join();
  CHECK(other != first);
}

}  // namespace
}  // namespace convcore

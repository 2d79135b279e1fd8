#include "shim.h"

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CONVCORE_CUDA_HOST_RACES)  // the kernels are compiled with -fsanitize=thread, this file is not
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}
#endif

// ---- switching stacks ---------------------------------------------------------------------------------------------
//
// swapcontext would do, but makes two system calls per switch. The callee-saved registers are all that a function call
// must keep.

#if defined(__x86_64__)
extern "C" void convcore_switch_stack(void** save, void* load);
asm(R"(
.text
.globl convcore_switch_stack
.type convcore_switch_stack, @function
convcore_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size convcore_switch_stack, .-convcore_switch_stack
.section .note.GNU-stack,"",@progbits
.text
)");
#else
#error "the host shim of the CUDA kernels switches stacks on x86-64 only"
#endif

namespace convcore::cuda_host {
namespace {

constexpr size_t kStack = 128 * 1024;
constexpr size_t kGuard = 4096;  // an unmapped page below each stack

enum class State { not_started, ready, at_barrier, at_warp_barrier, in_exchange, done };

struct PendingCopy {
  void* shared;
  const void* global;
  int size, bytes, group;
};

struct SharedAccess {
  uintptr_t address;
  int bytes;
};

// A stack, and where what runs on it goes on. A thread that never waits leaves its stack to the next thread, without a
// switch; one that waits keeps it until it is done.
struct Fiber {
  char* stack = nullptr;
  void* sp = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
#if defined(CONVCORE_CUDA_HOST_RACES)
  void* race_fiber = nullptr;
#endif
  size_t team = 0;
};

struct Thread {
  State state = State::not_started;
  int barriers = 0, warp_barriers = 0;  // that it has passed
  Fiber* fiber = nullptr;
  dim3 index;
  size_t next_shared = 0;  // of the shared arrays
  std::vector<PendingCopy> copies;
  bool fenced = false;
  void* arrived_at = nullptr;  // the last atomicAdd
  int open_group = 0;          // cp.async since the last commit belong to it
  std::vector<SharedAccess> accesses;
};

struct Warp {
  std::vector<char> left;  // what the lanes left in an exchange
  std::vector<char> given;
  int arrived = 0, lanes = 0;
  size_t bytes = 0;
};

struct Shared {
  void* data;
  size_t bytes;
};

// The detector of races must see each thread of a block as one of its own. To make a fiber of the detector takes longer
// than most threads run, so later blocks use them again, each always with its own stack. That hides nothing and invents
// nothing within a block, since what a fiber has seen before the block orders nothing that happens in it. But the
// detector takes two blocks with the same fibers to run one after the other, so neighbours have different ones: blocks
// take turns with the teams, and races between two that are fewer than kTeams apart are found.
#if defined(CONVCORE_CUDA_HOST_RACES)
constexpr bool kFibersAreShared = false;
constexpr size_t kTeams = 3;
#else
constexpr bool kFibersAreShared = true;
constexpr size_t kTeams = 1;
#endif

std::vector<std::unique_ptr<Fiber>> fibers;  // all that there are, kept from launch to launch
std::vector<Fiber*> idle;                    // those of the team whose turn it is
size_t team;
std::vector<Thread> threads;
std::vector<Warp> warps;
std::vector<Shared> shared;
std::vector<int> order;  // in which the threads take their turns
size_t started;          // so many of them have
std::exception_ptr thrown;
size_t shared_limit, shared_used;
int current = -1;
Fiber* running_fiber;
void* scheduler_sp;
const char* kernel_name;
Entry entry;
void* entry_arguments;
Settings settings_;
Counts counts_;
#if defined(CONVCORE_CUDA_HOST_RACES)
// Whoever acquires a tag is after those who have released it. Threads begin after the launch and it ends after them,
// with no order between two threads. A barrier has two tags that take turns: a thread that comes out of it late would
// else be taken to be after what others did between this barrier and the next one.
char begin_tag, end_tag;
struct Tags {
  char block[2], warps[1024 / kWarp][2];
};
std::unique_ptr<Tags> tags;  // of the running block. Freed with it, for the detector forgets freed memory
void* scheduler_race_fiber;
#endif
#if defined(__SANITIZE_ADDRESS__)
void* scheduler_fake;
const void* scheduler_bottom;
size_t scheduler_size;
#endif

// The scheduler's own accesses on behalf of a fiber, through memcpy and the allocator, are none of the race detector's
// business.
struct Unseen {
#if defined(CONVCORE_CUDA_HOST_RACES)
  Unseen() { __tsan_ignore_thread_begin(); }
  ~Unseen() { __tsan_ignore_thread_end(); }
#else
  Unseen() {}
#endif
};

[[noreturn]] void rule_broken(const std::string& what) {
  const dim3 t = running.thread, b = running.block;
  throw std::logic_error("CUDA rule broken by thread (" + std::to_string(t.x) + "," + std::to_string(t.y) + "," +
                         std::to_string(t.z) + ") of block (" + std::to_string(b.x) + "," + std::to_string(b.y) + "," +
                         std::to_string(b.z) + ") of '" + kernel_name + "': " + what);
}

void switch_to_scheduler([[maybe_unused]] bool forever) {
  Fiber& me = *running_fiber;
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_switch_to_fiber(scheduler_race_fiber, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(forever ? nullptr : &me.fake_stack, scheduler_bottom, scheduler_size);
#endif
  convcore_switch_stack(&me.sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(me.fake_stack, &scheduler_bottom, &scheduler_size);
#endif
}

void run_thread(int t) {
  current = t;
  Thread& me = threads[size_t(t)];
  me.state = State::ready;
  me.fiber = running_fiber;
  running.thread = me.index;
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(&begin_tag);
#endif
  entry(entry_arguments);
  if (!me.copies.empty()) rule_broken("it ends with cp.async copies that nobody waited for");
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_release(&end_tag);
#endif
  me.state = State::done;
}

// Runs threads that have not started, one after another. Once one has waited, all have started when it goes on.
void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
  try {
    do run_thread(order[started++]);
    while (kFibersAreShared && started < order.size());
  } catch (...) {
    thrown = std::current_exception();
  }
  if (kFibersAreShared) idle.push_back(running_fiber);  // else it is free when the block ends
  switch_to_scheduler(true);
  __builtin_unreachable();
}

// The stack as convcore_switch_stack leaves it, with fiber_main as the return address. At a function's entry the stack
// pointer is 8 beyond a multiple of 16.
void prepare_stack(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStack);
#endif
  auto top = reinterpret_cast<uintptr_t>(fiber.stack) + kStack;
  auto* words = reinterpret_cast<uintptr_t*>(top);
  words[-2] = reinterpret_cast<uintptr_t>(&fiber_main);
  for (int i = 3; i <= 8; i++) words[-i] = 0;
  fiber.sp = &words[-8];
}

void add_fiber() {
  void* memory =
      mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  fibers.push_back(std::make_unique<Fiber>());
  fibers.back()->stack = static_cast<char*>(memory) + kGuard;
  fibers.back()->team = team;
  idle.reserve(fibers.size());  // not in a thread of a kernel: what the allocator does there would look like a race
  idle.push_back(fibers.back().get());
}

Fiber& new_fiber() {
  if (idle.empty()) add_fiber();
  Fiber& fiber = *idle.back();
  idle.pop_back();
  prepare_stack(fiber);
  return fiber;
}

void switch_to(Fiber& fiber) {
  running_fiber = &fiber;
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_switch_to_fiber(fiber.race_fiber, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake, fiber.stack, kStack);
#endif
  convcore_switch_stack(&scheduler_sp, fiber.sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
  if (thrown) std::rethrow_exception(std::exchange(thrown, nullptr));
}

Warp& my_warp() { return warps[size_t(current) / kWarp]; }

void put_in_order(std::vector<int>& turns, size_t count, std::mt19937_64& random) {
  turns.resize(count);
  std::iota(turns.begin(), turns.end(), 0);
  if (settings_.order == Order::reverse) std::reverse(turns.begin(), turns.end());
  if (settings_.order == Order::random) std::shuffle(turns.begin(), turns.end(), random);
}

// Shared memory has 32 banks of 4 bytes. An access of 16 bytes per lane goes in four turns of 8 lanes, one of 8 bytes
// in two, one of 4 in one; each turn takes as long as the bank with the most different words in it.
int64_t extra_turns(const std::vector<uintptr_t>& addresses, int bytes) {
  const size_t lanes_per_turn = size_t(128 / bytes);
  int64_t extra = 0;
  for (size_t first = 0; first < addresses.size(); first += lanes_per_turn) {
    std::vector<uintptr_t> words[32];
    for (size_t lane = first; lane < std::min(addresses.size(), first + lanes_per_turn); lane++)
      for (int b = 0; b < bytes; b += 4) {
        const uintptr_t word = (addresses[lane] + uintptr_t(b)) / 4;
        auto& bank = words[word % 32];
        if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
      }
    size_t turns = 1;
    for (const auto& bank : words) turns = std::max(turns, bank.size());
    extra += int64_t(turns) - 1;
  }
  return extra;
}

void count_conflicts() {
  for (size_t w = 0; w < warps.size(); w++) {
    const Thread* lanes = &threads[w * kWarp];
    for (int lane = 1; lane < warps[w].lanes; lane++)
      if (lanes[lane].accesses.size() != lanes[0].accesses.size()) return;  // lanes went different ways: not comparable
    for (size_t a = 0; a < lanes[0].accesses.size(); a++) {
      std::vector<uintptr_t> addresses;
      for (int lane = 0; lane < warps[w].lanes; lane++) addresses.push_back(lanes[lane].accesses[a].address);
      counts_.shared_accesses++;
      counts_.bank_conflicts += extra_turns(addresses, lanes[0].accesses[a].bytes);
    }
  }
}

// Lets every thread that is not waiting run until it waits; says whether any ran.
bool run_ready(std::mt19937_64& random) {
  put_in_order(order, threads.size(), random);
  bool any = false;
  for (int t : order) {
    const Thread& thread = threads[size_t(t)];
    if (thread.state != State::ready) continue;
    any = true;
    current = t;
    running.thread = thread.index;
    switch_to(*thread.fiber);
  }
  return any;
}

void start_all(std::mt19937_64& random) {
  put_in_order(order, threads.size(), random);
  started = 0;
  while (started < order.size()) switch_to(new_fiber());
}

void release_warps() {
  for (size_t w = 0; w < warps.size(); w++) {
    Warp& warp = warps[w];
    Thread* lanes = &threads[w * kWarp];
    const State state = lanes[0].state;
    if (state != State::in_exchange && state != State::at_warp_barrier) continue;
    if (!std::all_of(lanes, lanes + warp.lanes, [&](const Thread& t) { return t.state == state; })) continue;
    if (state == State::in_exchange) std::swap(warp.given, warp.left), warp.arrived = 0;
    std::for_each(lanes, lanes + warp.lanes, [](Thread& t) { t.state = State::ready; });
  }
}

void run_block(std::mt19937_64& random) {
  start_all(random);
  for (;;) {
    release_warps();
    if (run_ready(random)) continue;
    size_t done = 0, waiting = 0;
    for (const Thread& t : threads) done += t.state == State::done, waiting += t.state == State::at_barrier;
    if (done == threads.size()) return;
    if (waiting != threads.size()) {
      for (const Thread& t : threads) {
        if (t.state == State::done) continue;
        running.thread = t.index;
        rule_broken(t.state == State::at_barrier ? "it waits at a barrier that other threads never reach"
                                                 : "it waits for lanes of its warp that never come");
      }
    }
    for (Thread& t : threads) t.state = State::ready;
  }
}

void free_shared() {
  for (const Shared& array : shared) ::operator delete(array.data, std::align_val_t(16));
  shared.clear();
  shared_used = 0;
}

void make_threads(dim3 block) {
  threads.resize(size_t(block.x) * block.y * block.z);
  warps.resize((threads.size() + kWarp - 1) / kWarp);
  for (Warp& warp : warps) warp.arrived = warp.lanes = 0;
  idle.clear();
  for (const auto& fiber : fibers)
    if (fiber->team == team) idle.push_back(fiber.get());
#if defined(CONVCORE_CUDA_HOST_RACES)
  tags = std::make_unique<Tags>();
  // Before the first thread runs: the detector takes what ran before a fiber was made to be before all that it does.
  while (idle.size() < threads.size()) add_fiber();
  for (Fiber* fiber : idle)
    if (!fiber->race_fiber) fiber->race_fiber = __tsan_create_fiber(0);
#endif
  for (size_t t = 0; t < threads.size(); t++) {
    Thread& thread = threads[t];
    thread.barriers = thread.warp_barriers = 0;
    thread.arrived_at = nullptr;
    thread.index = dim3(unsigned(t % block.x), unsigned(t / block.x % block.y), unsigned(t / block.x / block.y));
    thread.state = State::not_started;
    thread.next_shared = 0;
    thread.copies.clear();
    thread.open_group = 0;
    thread.fenced = false;
    thread.accesses.clear();
    warps[t / kWarp].lanes++;
  }
}

void end_block() {
  free_shared();
#if defined(CONVCORE_CUDA_HOST_RACES)
  tags.reset();
#endif
  team = (team + 1) % kTeams;
}

// Threads that wait for ever leave the detector in the middle of their calls: it gets new fibers in their place.
void abandon_block() {
#if defined(CONVCORE_CUDA_HOST_RACES)
  for (const auto& fiber : fibers)
    if (fiber->team == team && fiber->race_fiber) __tsan_destroy_fiber(std::exchange(fiber->race_fiber, nullptr));
#endif
  end_block();
}

void run_blocks(dim3 grid, dim3 block, size_t blocks, std::mt19937_64& random) {
  const Unseen unseen;
  std::vector<int> turns;
  put_in_order(turns, blocks, random);
  for (int b : turns) {
    const auto n = unsigned(b);
    running.block = dim3(n % grid.x, n / grid.x % grid.y, n / grid.x / grid.y);
    counts_.blocks++;
    make_threads(block);
    try {
      run_block(random);
    } catch (...) {
      abandon_block();
      throw;
    }
    if (settings_.count_bank_conflicts) count_conflicts();
    end_block();
  }
}

}  // namespace

ThreadIndex running;

Settings& settings() { return settings_; }
Counts& counts() { return counts_; }

void expect_no_host_pointer(const char* kernel, const void* argument, size_t bytes) {
  if (settings_.device_pointers_only) expect_device_pointers(kernel, argument, bytes);
}

void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Entry kernel, void* arguments) {
  const std::string owner = "CUDA rule broken by the launch of '" + std::string(name) + "': ";
  const size_t in_block = size_t(block.x) * block.y * block.z;
  if (in_block == 0 || in_block > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    throw std::logic_error(owner + "impossible size of grid or block");
  if (shared_bytes > kMaxShared) throw std::logic_error(owner + "more shared memory than a block can have");
  counts_.launches++;
  kernel_name = name, entry = kernel, entry_arguments = arguments;
  running.block_size = block, running.grid_size = grid;
  shared_limit = shared_bytes;
  std::mt19937_64 random(settings_.seed);
#if defined(CONVCORE_CUDA_HOST_RACES)
  scheduler_race_fiber = __tsan_get_current_fiber();
  __tsan_release(&begin_tag);
#endif
  const size_t blocks = size_t(grid.x) * grid.y * grid.z;
  run_blocks(grid, block, blocks, random);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(&end_tag);
#endif
}

void* shared_array(size_t bytes) {
  const Unseen unseen;
  Thread& me = threads[size_t(current)];
  const size_t number = me.next_shared++;
  if (number == shared.size()) {
    shared_used += (bytes + 15) / 16 * 16;
    if (shared_used > shared_limit) rule_broken("more shared memory than the launch asked for");
    void* data = ::operator new(bytes, std::align_val_t(16));
    std::memset(data, 0xFF, bytes);  // NaN, as float and as bfloat16
    shared.push_back({data, bytes});
  }
  if (shared[number].bytes != bytes) rule_broken("its shared arrays differ from those of another thread");
  return shared[number].data;
}

void block_barrier() {
  Thread& me = threads[size_t(current)];
  me.state = State::at_barrier;
#if defined(CONVCORE_CUDA_HOST_RACES)
  char* tag = &tags->block[me.barriers++ % 2];
  __tsan_release(tag);
#endif
  switch_to_scheduler(false);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(tag);
#endif
}

void warp_barrier() {
  Thread& me = threads[size_t(current)];
  me.state = State::at_warp_barrier;
#if defined(CONVCORE_CUDA_HOST_RACES)
  char* tag = &tags->warps[current / kWarp][me.warp_barriers++ % 2];
  __tsan_release(tag);
#endif
  switch_to_scheduler(false);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(tag);
#endif
}

const void* exchange(const void* value, size_t bytes) {
  Warp& warp = my_warp();
  {
    const Unseen unseen;
    if (warp.lanes != kWarp) rule_broken("a warp of fewer than 32 threads takes part in a collective");
    if (warp.arrived++ == 0) {
      warp.bytes = bytes;
      warp.left.resize(bytes * kWarp);
    } else if (warp.bytes != bytes) {
      rule_broken("the lanes of its warp are in different collectives");
    }
    std::memcpy(&warp.left[size_t(current) % kWarp * bytes], value, bytes);
  }
  threads[size_t(current)].state = State::in_exchange;
  switch_to_scheduler(false);
  return warp.given.data();
}

void async_copy(void* to, const void* from, int size, int bytes) {
  const Unseen unseen;
  Thread& me = threads[size_t(current)];
  if (reinterpret_cast<uintptr_t>(to) % unsigned(size) != 0 ||
      (bytes > 0 && reinterpret_cast<uintptr_t>(from) % unsigned(size) != 0))
    rule_broken("cp.async of an address that is not aligned to its size");
  std::memset(to, 0xFF, size_t(size));
  me.copies.push_back({to, from, size, bytes, me.open_group});
}

void async_commit() { threads[size_t(current)].open_group++; }

void async_wait(int groups_left, Copy copy_now) {
  Thread& me = threads[size_t(current)];
  const int complete = me.open_group - groups_left;  // groups before this one are
  // Groups are complete in order, and so are the copies.
  size_t done = 0;
  for (; done < me.copies.size() && me.copies[done].group < complete; done++) {
    const PendingCopy& copy = me.copies[done];
    copy_now(copy.shared, copy.global, copy.size, copy.bytes);
  }
  const Unseen unseen;
  me.copies.erase(me.copies.begin(), me.copies.begin() + std::ptrdiff_t(done));
}

void fence() {
  Thread& me = threads[size_t(current)];
  me.fenced = true;
#if defined(CONVCORE_CUDA_HOST_RACES)
  if (me.arrived_at) __tsan_acquire(me.arrived_at);
#endif
}
void before_arrival([[maybe_unused]] void* at) {
  Thread& me = threads[size_t(current)];
  if (!me.fenced) rule_broken("it arrives (atomicAdd) with no __threadfence before");
#if defined(CONVCORE_CUDA_HOST_RACES)
  me.arrived_at = at;
#endif
}

void note_shared_access(const void* address, int bytes) {
  if (reinterpret_cast<uintptr_t>(address) % unsigned(bytes) != 0) rule_broken("a vector access that is not aligned");
  if (settings_.count_bank_conflicts)
    threads[size_t(current)].accesses.push_back({reinterpret_cast<uintptr_t>(address), bytes});
}

}  // namespace convcore::cuda_host

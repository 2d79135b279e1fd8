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

enum class State { ready, at_barrier, at_warp_barrier, in_exchange, done };

struct PendingCopy {
  void* shared;
  const void* global;
  int size, bytes, group;
};

struct SharedAccess {
  uintptr_t address;
  int bytes;
};

struct Fiber {
  char* stack = nullptr;
  void* sp = nullptr;  // where it goes on
  State state = State::ready;
  dim3 thread;
  size_t next_shared = 0;  // of the shared arrays
  std::vector<PendingCopy> copies;
  int open_group = 0;  // cp.async since the last commit belong to it
  std::vector<SharedAccess> accesses;
  std::exception_ptr thrown;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
#endif
#if defined(CONVCORE_CUDA_HOST_RACES)
  void* race_fiber = nullptr;
#endif
};

struct Warp {
  std::vector<char> left;  // what the lanes left in an exchange
  std::vector<char> given;
  int arrived = 0, lanes = 0;
  size_t bytes = 0;
  char barrier_tag = 0;
};

struct Shared {
  void* data;
  size_t bytes;
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<Shared> shared;
size_t shared_limit, shared_used;
int current = -1;
void* scheduler_sp;
Entry entry;
void* entry_arguments;
ThreadIndex index_;
Settings settings_;
Counts counts_;
#if defined(CONVCORE_CUDA_HOST_RACES)
char barrier_tag, launch_tag;
#endif
#if defined(__SANITIZE_ADDRESS__)
void* scheduler_fake;
const void* scheduler_bottom;
size_t scheduler_size;
#endif
#if defined(CONVCORE_CUDA_HOST_RACES)
void* scheduler_race_fiber;
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
  const dim3 t = index_.thread, b = index_.block;
  throw std::logic_error("CUDA rule broken by thread (" + std::to_string(t.x) + "," + std::to_string(t.y) + "," +
                         std::to_string(t.z) + ") of block (" + std::to_string(b.x) + "," + std::to_string(b.y) + "," +
                         std::to_string(b.z) + "): " + what);
}

void switch_to_scheduler(bool forever) {
  Fiber& me = fibers[size_t(current)];
  (void)forever;
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

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
  Fiber& me = fibers[size_t(current)];
  try {
#if defined(CONVCORE_CUDA_HOST_RACES)
    __tsan_acquire(&launch_tag);
#endif
    entry(entry_arguments);
    if (!me.copies.empty()) rule_broken("it ends with cp.async copies that nobody waited for");
#if defined(CONVCORE_CUDA_HOST_RACES)
    __tsan_release(&launch_tag);
#endif
  } catch (...) {
    me.thrown = std::current_exception();
  }
  me.state = State::done;
  switch_to_scheduler(true);
  __builtin_unreachable();
}

// The stack as convcore_switch_stack leaves it, with fiber_main as the return address. At a function's entry the stack
// pointer is 8 beyond a multiple of 16.
void prepare_stack(Fiber& fiber) {
  auto top = reinterpret_cast<uintptr_t>(fiber.stack) + kStack;
  auto* words = reinterpret_cast<uintptr_t*>(top);
  words[-2] = reinterpret_cast<uintptr_t>(&fiber_main);
  for (int i = 3; i <= 8; i++) words[-i] = 0;
  fiber.sp = &words[-8];
}

void switch_to_fiber(int f) {
  current = f;
  index_.thread = fibers[size_t(f)].thread;
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_switch_to_fiber(fibers[size_t(f)].race_fiber, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake, fibers[size_t(f)].stack, kStack);
#endif
  convcore_switch_stack(&scheduler_sp, fibers[size_t(f)].sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
  current = -1;
}

Warp& my_warp() { return warps[size_t(current) / kWarp]; }

std::vector<int> order_of(size_t count, std::mt19937_64& random) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (settings_.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (settings_.order == Order::random) std::shuffle(order.begin(), order.end(), random);
  return order;
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
    const Fiber* lanes = &fibers[w * kWarp];
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

// Lets every fiber that is not waiting run until it waits; says whether any ran.
bool run_ready(std::mt19937_64& random) {
  bool any = false;
  for (int f : order_of(fibers.size(), random)) {
    if (fibers[size_t(f)].state != State::ready) continue;
    any = true;
    switch_to_fiber(f);
    if (fibers[size_t(f)].thrown) std::rethrow_exception(fibers[size_t(f)].thrown);
  }
  return any;
}

void release_warps() {
  for (size_t w = 0; w < warps.size(); w++) {
    Fiber* lanes = &fibers[w * kWarp];
    const auto all = [&](State state) {
      return std::all_of(lanes, lanes + warps[w].lanes, [&](const Fiber& f) { return f.state == state; });
    };
    if (all(State::in_exchange)) warps[w].given = warps[w].left, warps[w].arrived = 0;
    if (all(State::in_exchange) || all(State::at_warp_barrier))
      std::for_each(lanes, lanes + warps[w].lanes, [](Fiber& f) { f.state = State::ready; });
  }
}

void run_block(std::mt19937_64& random) {
  for (;;) {
    if (run_ready(random)) {
      release_warps();
      continue;
    }
    size_t done = 0, waiting = 0;
    for (const Fiber& f : fibers) done += f.state == State::done, waiting += f.state == State::at_barrier;
    if (done == fibers.size()) return;
    if (waiting != fibers.size()) {
      for (size_t f = 0; f < fibers.size(); f++) {
        if (fibers[f].state == State::done) continue;
        index_.thread = fibers[f].thread;
        rule_broken(fibers[f].state == State::at_barrier ? "it waits at a barrier that other threads never reach"
                                                         : "it waits for lanes of its warp that never come");
      }
    }
    for (Fiber& f : fibers) f.state = State::ready;
  }
}

void free_shared() {
  for (const Shared& array : shared) ::operator delete(array.data, std::align_val_t(16));
  shared.clear();
  shared_used = 0;
}

// Stacks are kept from launch to launch.
std::vector<char*> stacks;
char* new_stack() {
  if (!stacks.empty()) {
    char* stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  void* memory =
      mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  return static_cast<char*>(memory) + kGuard;
}

void make_fibers(dim3 block) {
  fibers.clear();
  fibers.resize(size_t(block.x) * block.y * block.z);
  warps.assign((fibers.size() + kWarp - 1) / kWarp, Warp{});
  for (size_t f = 0; f < fibers.size(); f++) {
    fibers[f].thread = dim3(unsigned(f % block.x), unsigned(f / block.x % block.y), unsigned(f / block.x / block.y));
    fibers[f].stack = new_stack();
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fibers[f].stack, kStack);
#endif
    prepare_stack(fibers[f]);
#if defined(CONVCORE_CUDA_HOST_RACES)
    fibers[f].race_fiber = __tsan_create_fiber(0);
#endif
    warps[f / kWarp].lanes++;
  }
}

void drop_fibers() {
  for (Fiber& fiber : fibers) {
    stacks.push_back(fiber.stack);
#if defined(CONVCORE_CUDA_HOST_RACES)
    __tsan_destroy_fiber(fiber.race_fiber);
#endif
  }
  fibers.clear();
}

void run_blocks(dim3 grid, dim3 block, size_t blocks, std::mt19937_64& random) {
  const Unseen unseen;
  for (int b : order_of(blocks, random)) {
    const auto n = unsigned(b);
    index_.block = dim3(n % grid.x, n / grid.x % grid.y, n / grid.x / grid.y);
    counts_.blocks++;
    make_fibers(block);
    try {
      run_block(random);
    } catch (...) {
      drop_fibers();
      free_shared();
      throw;
    }
    if (settings_.count_bank_conflicts) count_conflicts();
    drop_fibers();
    free_shared();
  }
}

}  // namespace

Settings& settings() { return settings_; }
Counts& counts() { return counts_; }
const ThreadIndex& index() { return index_; }

void run(dim3 grid, dim3 block, size_t shared_bytes, Entry kernel, void* arguments) {
  const size_t threads = size_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    throw std::logic_error("CUDA rule broken: impossible size of grid or block");
  if (shared_bytes > kMaxShared) throw std::logic_error("CUDA rule broken: more shared memory than a block can have");
  counts_.launches++;
  entry = kernel, entry_arguments = arguments;
  index_.block_size = block, index_.grid_size = grid;
  shared_limit = shared_bytes;
  std::mt19937_64 random(settings_.seed);
#if defined(CONVCORE_CUDA_HOST_RACES)
  scheduler_race_fiber = __tsan_get_current_fiber();
  __tsan_release(&launch_tag);
#endif
  const size_t blocks = size_t(grid.x) * grid.y * grid.z;
  run_blocks(grid, block, blocks, random);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(&launch_tag);
#endif
}

void* shared_array(size_t bytes) {
  const Unseen unseen;
  Fiber& me = fibers[size_t(current)];
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
  fibers[size_t(current)].state = State::at_barrier;
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_release(&barrier_tag);
#endif
  switch_to_scheduler(false);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(&barrier_tag);
#endif
}

void warp_barrier() {
  fibers[size_t(current)].state = State::at_warp_barrier;
#if defined(CONVCORE_CUDA_HOST_RACES)
  char* tag = &my_warp().barrier_tag;
  __tsan_release(tag);
#endif
  switch_to_scheduler(false);
#if defined(CONVCORE_CUDA_HOST_RACES)
  __tsan_acquire(tag);
#endif
}

void exchange(const void* in, size_t bytes, void* out) {
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
    std::memcpy(&warp.left[size_t(current) % kWarp * bytes], in, bytes);
  }
  fibers[size_t(current)].state = State::in_exchange;
  switch_to_scheduler(false);
  const Unseen unseen;
  std::memcpy(out, warp.given.data(), bytes * kWarp);
}

void async_copy(void* to, const void* from, int size, int bytes) {
  const Unseen unseen;
  Fiber& me = fibers[size_t(current)];
  if (reinterpret_cast<uintptr_t>(to) % unsigned(size) != 0 ||
      (bytes > 0 && reinterpret_cast<uintptr_t>(from) % unsigned(size) != 0))
    rule_broken("cp.async of an address that is not aligned to its size");
  std::memset(to, 0xFF, size_t(size));
  me.copies.push_back({to, from, size, bytes, me.open_group});
}

void async_commit() { fibers[size_t(current)].open_group++; }

void async_wait(int groups_left, Copy copy_now) {
  Fiber& me = fibers[size_t(current)];
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

void note_shared_access(const void* address, int bytes) {
  if (reinterpret_cast<uintptr_t>(address) % unsigned(bytes) != 0) rule_broken("a vector access that is not aligned");
  if (settings_.count_bank_conflicts)
    fibers[size_t(current)].accesses.push_back({reinterpret_cast<uintptr_t>(address), bytes});
}

}  // namespace convcore::cuda_host

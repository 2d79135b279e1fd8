// Programs made at random: every step finds in memory what the steps before it left there, at any number of threads.
#include "plan/program.h"

#include <atomic>
#include <random>

#include "core/team.h"
#include "helpers.h"

namespace convcore::plan {
namespace {

// Value `id` of image n, as the steps write and expect it.
float tag(ValueId id, int64_t n) { return float(id * 1000 + n); }

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int below(int count) { return int(engine_() % uint64_t(count)); }

 private:
  std::mt19937_64 engine_;
};

struct RandomProgram {
  Random random;
  Program program;
  std::atomic<int64_t> wrong{0}, block_steps{0}, task_steps{0};
  int64_t blocks_in_a_pass = 0, tasks_in_a_pass = 0, tasks_once = 0;
  std::vector<ValueId> readable;

  explicit RandomProgram(uint64_t seed) : random(seed), program(1 + Random(seed).below(45)) {
    const int steps = 3 + random.below(25);
    for (int i = 0; i < steps; i++) add_step();
    const int shards[] = {0, 1, 2, 4, 8};
    program.finish(shards[random.below(5)]);
  }

  std::vector<ValueId> some_values() {
    std::vector<ValueId> some;
    for (int i = 0; i < 3 && !readable.empty(); i++)
      if (random.below(3)) some.push_back(readable[size_t(random.below(int(readable.size())))]);
    return some;
  }

  void check(const float* at, ValueId id, int64_t n) {
    for (int64_t i = 0; i < program[id].floats; i++) wrong += at[i] != tag(id, n);
  }

  void add_step() {
    const std::vector<ValueId> reads = some_values();
    const int kind = random.below(10), after = random.below(4);
    if (kind == 0 && !reads.empty()) {
      program.serial("serial", {reads[0]}, std::max(after, program.phase_of(reads[0]) + 1), [=](const Frame& f) {
        for (int64_t n = 0; n < program.images(); n++)
          check(f.whole(reads[0]) + n * program[reads[0]].floats, reads[0], n);
      });
      return;
    }
    if (kind <= 2) {
      const int64_t count = 1 + random.below(5);
      const bool once = random.below(2) == 0;
      (once ? tasks_once : tasks_in_a_pass) += count;
      program.tasks(
          "tasks", reads, after, count, 1 + random.below(100),
          [=](const Frame& f, int64_t, int) {
            task_steps++;
            for (ValueId id : reads)
              for (int64_t n = 0; n < program.images(); n++) check(f.whole(id) + n * program[id].floats, id, n);
          },
          once);
      return;
    }
    std::vector<ValueId> writes;
    if (kind <= 4 && !reads.empty()) {  // in place: what was there cannot be read any more
      const ValueId of = reads[0];
      writes.push_back(program.alias(of, "in place", program[of].shape, Layout::row_major));
      readable.erase(std::remove(readable.begin(), readable.end(), of), readable.end());
    }
    for (int i = random.below(3); i > 0 || writes.empty(); i--)
      writes.push_back(program.value("value", {1 + random.below(40), 1 + random.below(3)}));
    program.block(
        "block", reads, writes,
        [=](const Frame& f, const Block& b) {
          block_steps += b.count();
          for (ValueId id : reads)
            for (int64_t n = b.begin; n < b.end; n++) check(f.at(id, b) + (n - b.begin) * program[id].floats, id, n);
          for (ValueId id : writes)
            for (int64_t n = b.begin; n < b.end; n++)
              std::fill_n(f.at(id, b) + (n - b.begin) * program[id].floats, program[id].floats, tag(id, n));
        },
        after);
    blocks_in_a_pass++;
    readable.insert(readable.end(), writes.begin(), writes.end());
  }

  void run(int threads, int passes) {
    Team team(threads);
    Frame frame(program, threads);
    team.run([&](int thread) {
      for (int pass = 0; pass < passes; pass++)
        for (int phase = program.first_phase(pass > 0); phase < program.phases(); phase++) {
          team.meet([&] {
            frame.again = pass > 0;
            frame.run_before(phase);
          });
          team.attempt([&] { frame.run_phase(phase, thread, team.threads()); });
        }
    });
  }
};

TEST_CASE("every step of a program finds what the steps before it left") {
  for (uint64_t seed = 0; seed < 300; seed++) {
    CAPTURE(seed);
    RandomProgram p(seed);
    for (int threads : {1, 3}) {
      p.block_steps = 0, p.task_steps = 0;
      p.run(threads, 2);
      CHECK(p.wrong == 0);
      CHECK(p.block_steps == 2 * p.blocks_in_a_pass * p.program.images());  // each image once
      CHECK(p.task_steps == 2 * p.tasks_in_a_pass + p.tasks_once);          // and each task
    }
  }
}

TEST_CASE("shards and blocks do not depend on the number of threads") {
  for (int64_t images : {1, 2, 7, 8, 33, 100}) {
    std::vector<std::vector<int64_t>> first;
    for (int threads : {1, 2, 5}) {
      Program program(images);
      const ValueId v = program.value("value", {5000});
      std::vector<std::vector<int64_t>> blocks(static_cast<size_t>(images));
      program.block("block", {}, {v}, [&](const Frame&, const Block& b) {
        blocks[size_t(b.begin)] = {b.begin, b.end, b.shard, b.first};
      });
      program.finish(4);
      const Frame frame(program, threads);
      for (int thread = 0; thread < threads; thread++) frame.run_phase(0, thread, threads);
      if (first.empty()) first = blocks;
      CHECK(first == blocks);
    }
  }
}

}  // namespace
}  // namespace convcore::plan

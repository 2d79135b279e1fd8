// Team: every thread takes part, nobody goes on before the others and the one that works alone, exceptions come out.
#include "core/team.h"

#include <atomic>
#include <thread>

#include "helpers.h"

namespace convcore {
namespace {

using test::message_of;

// A round: each thread writes its own number, one of them adds them up, and all read the sum. The memory is plain, so
// that a thread sanitizer knows when the barrier does not order it.
void count_rounds(Team& team, int rounds) {
  std::vector<int> own(size_t(team.threads()), 0);
  std::atomic<int> wrong{0}, bodies{0};
  int sum = 0, times = 0;
  team.run([&](int thread) {
    bodies++;
    for (int round = 1; round <= rounds; round++) {
      own[size_t(thread)] = round;
      team.meet([&] {
        sum = 0;
        for (int i = 0; i < team.threads(); i++) sum += own[size_t(i)];
        times++;
      });
      wrong += sum != round * team.threads() || times != round;
      team.meet([] {});  // sum is read before it is written again
    }
  });
  CHECK(bodies == team.threads());
  CHECK(times == rounds);
  CHECK(wrong == 0);
}

TEST_CASE("the threads of a team meet, and one of them works alone before anyone goes on") {
  for (int threads : {1, 2, 3, 8, 40}) {
    CAPTURE(threads);
    Team team(threads);
    count_rounds(team, threads > 8 ? 20 : 300);
    count_rounds(team, 3);  // and again
  }
}

TEST_CASE("thread 0 of a team is the caller") {
  const auto caller = std::this_thread::get_id();
  Team team(3);
  std::vector<std::thread::id> ids(3);
  team.run([&](int thread) { ids[size_t(thread)] = std::this_thread::get_id(); });
  CHECK((ids[0] == caller));
  if (team.threads() > 1) CHECK((ids[1] != caller));
}

TEST_CASE("an exception of one thread of a team comes out, and the team can be used again") {
  for (int threads : {1, 2, 5}) {
    CAPTURE(threads);
    Team team(threads);
    for (int from = 0; from <= threads; from++) {
      std::atomic<int> later{0};
      const std::string message = message_of([&] {
        team.run([&](int thread) {
          for (int round = 0; round < 10; round++) {
            const auto fail_if = [&](bool chosen) {
              if (round == 4 && chosen) throw std::invalid_argument("round 4");
            };
            team.attempt([&] { fail_if(from == thread); });
            team.meet([&] { fail_if(from == team.threads()); });  // the one that works alone
            team.attempt([&] { later += round > 4; });
          }
        });
      });
      if (from <= team.threads()) {  // there may be fewer threads than asked for
        CHECK(message == "round 4");
        CHECK(later == 0);  // nothing runs after a failure
      }
      count_rounds(team, 5);
    }
  }
}

TEST_CASE("when all threads of a team fail, one exception comes out") {
  Team team(4);
  CHECK(message_of([&] { team.run([](int) { throw std::invalid_argument("all"); }); }) == "all");
  count_rounds(team, 5);
}

TEST_CASE("parallel_for inside of a team stays on its thread") {
  test::Threads scope(4);
  Team team(2);
  std::atomic<int> elsewhere{0};
  team.run([&](int) {
    const auto self = std::this_thread::get_id();
    parallel_for(100, 1 << 30, [&](int64_t, int64_t) { elsewhere += std::this_thread::get_id() != self; });
  });
  CHECK(elsewhere == 0);
}

}  // namespace
}  // namespace convcore

// add: exact at every size, and the same bits at any number of threads.
#include "ops/add.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_same_bits;
using test::message_of;
using test::random_tensor;

TEST_CASE("add is the rounded sum at every size") {
  for (int64_t count : test::kCounts) {
    CAPTURE(count);
    const Tensor a = random_tensor({count}, 1), b = random_tensor({count}, 2);
    Tensor want = Tensor::empty("test", "want", {count});
    for (int64_t i = 0; i < count; i++) want.data()[i] = a.data()[i] + b.data()[i];
    check_same_bits(add_forward(a, b), want);
  }
}

TEST_CASE("add gives the same bits at any number of threads") {
  const Tensor a = random_tensor({7, 43, 1001}, 1), b = random_tensor({7, 43, 1001}, 2);
  test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> { return {add_forward(a, b)}; });
}

TEST_CASE("add refuses shapes that differ") {
  const Tensor a = random_tensor({3}, 1), b = random_tensor({4}, 2);
  CHECK(message_of([&] { add_forward(a, b); }) != "");
  CHECK(message_of([&] { check_add_backward(b, a, a); }) != "");
  CHECK(message_of([&] { check_add_backward(a, a, a); }) == "");
}

}  // namespace
}  // namespace convcore

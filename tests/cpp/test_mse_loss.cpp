// mse_loss: by hand, against its formula at every size and around the shards, and the same bits at any number of
// threads.
#include "ops/mse_loss.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

const Reduction kReductions[] = {Reduction::mean, Reduction::sum, Reduction::none};

void check(int64_t count, Reduction reduction) {
  const bool none = reduction == Reduction::none;
  const Tensor x = random_tensor({count}, 1), target = random_tensor({count}, 2);
  const Tensor dy = random_tensor(none ? Shape{count} : Shape{}, 3);
  const double scale = reduction == Reduction::mean ? 1 / double(count) : 1;
  const size_t n = size_t(count);
  std::vector<Sum> losses(n), dx(n), dtarget(n);
  Sum total;
  for (int64_t i = 0; i < count; i++) {
    const double d = double(x.data()[i]) - double(target.data()[i]), by = dy.data()[none ? i : 0];
    losses[size_t(i)].add(d * d);
    total.add(scale * d * d);
    dx[size_t(i)].add(scale * by * 2 * d);
    dtarget[size_t(i)].add(-scale * by * 2 * d);
  }
  const Tensor loss = mse_loss_forward(x, target, reduction);
  if (reduction == Reduction::mean && count == 0)
    CHECK(std::isnan(*loss.data()));
  else
    check_close(loss, none ? Shape{count} : Shape{}, none ? losses : std::vector<Sum>{total});
  const MseLossGrads grads = mse_loss_backward(dy, x, target, reduction, true, true);
  check_close(grads.dx, {count}, dx);
  check_close(grads.dtarget, {count}, dtarget);
}

TEST_CASE("mse_loss by hand") {
  const Tensor x = tensor({2}, {1, 2}), target = tensor({2}, {3, -1});
  CHECK(*mse_loss_forward(x, target, Reduction::mean).data() == 6.5f);
  CHECK(*mse_loss_forward(x, target, Reduction::sum).data() == 13);
  const MseLossGrads grads = mse_loss_backward(tensor({}, {1}), x, target, Reduction::sum, true, false);
  CHECK(grads.dx.data()[0] == -4);
  CHECK(grads.dx.data()[1] == 6);
  CHECK(!grads.dtarget.given());
}

TEST_CASE("mse_loss matches its formula") {
  std::vector<int64_t> counts = test::kCounts;
  counts.insert(counts.end(), {kMseShard - 1, kMseShard, kMseShard + 1, 3 * kMseShard + 5});
  for (int64_t count : counts)
    for (Reduction reduction : kReductions) {
      CAPTURE(count);
      CAPTURE(int(reduction));
      check(count, reduction);
    }
}

TEST_CASE("mse_loss gives the same bits at any number of threads") {
  const Tensor x = random_tensor({101, 1009}, 1), target = random_tensor({101, 1009}, 2);
  for (Reduction reduction : kReductions) {
    const Tensor dy = random_tensor(reduction == Reduction::none ? x.shape() : Shape{}, 3);
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      return {mse_loss_forward(x, target, reduction), mse_loss_backward(dy, x, target, reduction, true, false).dx};
    });
  }
}

TEST_CASE("mse_loss refuses shapes that differ") {
  CHECK(message_of([] { mse_loss_forward(random_tensor({3}, 1), random_tensor({3, 1}, 2), Reduction::sum); }) != "");
}

}  // namespace
}  // namespace convcore

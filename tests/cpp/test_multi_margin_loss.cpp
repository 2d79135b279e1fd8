// multi_margin_loss: against the naive loops of its contract, for the sanitizers.
#include "ops/multi_margin_loss.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;

LabelArray labels(int64_t n, int64_t classes) {
  LabelArray all = LabelArray::empty("test", "labels", {n});
  for (int64_t i = 0; i < n; i++) all.data()[i] = i * 7 % classes;
  return all;
}

TEST_CASE("multi_margin_loss matches the naive loops") {
  for (int64_t p : {1, 2})
    for (int64_t classes : test::kCounts)
      for (int64_t n : {0, 1, 5}) {
        if (classes == 0) continue;
        CAPTURE(classes);
        const Tensor x = random_tensor({n, classes}, 1), weight = random_tensor({classes}, 2);
        const LabelArray target = labels(n, classes);
        std::vector<Sum> loss(size_t(target.count())), gradient(size_t(x.count()));
        for (int64_t i = 0; i < n; i++) {
          const int64_t t = target.data()[i];
          const double factor = double(weight.data()[t]) / double(classes);
          loss[size_t(i)].magnitude = gradient[size_t(i * classes + t)].magnitude = 10 * std::fabs(factor * classes);
          for (int64_t c = 0; c < classes; c++) {
            const double z = 1.0 - x.data()[i * classes + t] + x.data()[i * classes + c];
            if (c == t || z <= 0) continue;
            const double push = factor * (p == 2 ? 2 * z : 1);
            loss[size_t(i)].add(factor * (p == 2 ? z * z : z));
            gradient[size_t(i * classes + c)].add(push);
            gradient[size_t(i * classes + c)].magnitude += std::fabs(factor) * 10;
            gradient[size_t(i * classes + t)].add(-push);
          }
        }
        const MultiMarginLossResult got =
            multi_margin_loss_forward("test", x, target, weight, {p, 1.0f, Reduction::none}, true);
        check_close(got.loss, {n}, loss);
        check_close(got.gradient, {n, classes}, gradient);
      }
}

TEST_CASE("multi_margin_loss refuses labels that are not there") {
  const Tensor x = random_tensor({3, 2}, 1);
  CHECK(message_of([&] { multi_margin_loss_forward("test", x, labels(3, 5), {}, {1, 1, Reduction::mean}, false); }) !=
        "");
}

}  // namespace
}  // namespace convcore

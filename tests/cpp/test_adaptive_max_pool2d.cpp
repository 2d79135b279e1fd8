// adaptive_max_pool2d: against the naive loops of its contract, in both orders of memory, for the sanitizers.
#include "ops/adaptive_max_pool2d.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::message_of;
using test::random_tensor;

TEST_CASE("adaptive_max_pool2d matches the naive loops") {
  for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{0, 3, 4, 4}, Shape{2, 17, 6, 35}})
    for (const auto& [h_out, w_out] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {2, 7}, {9, 40}})
      for (Layout layout : {Layout::row_major, Layout::channels_last}) {
        const OutputSize size{h_out, w_out};
        const int64_t h_in = shape[2], w_in = shape[3];
        const Tensor x = random_tensor(shape, 1);
        const MaxPool2dResult got = adaptive_max_pool2d_forward(reorder("test", x, layout), size, true);
        const Tensor y = reorder("test", got.y, Layout::row_major);
        int64_t wrong = 0;
        for (int64_t at = 0; at < y.count(); at++) {
          const int64_t plane = at / (h_out * w_out), i = at / w_out % h_out, j = at % w_out;
          float best = -2;
          for (int64_t h = i * h_in / h_out; h * h_out < (i + 1) * h_in; h++)
            for (int64_t w = j * w_in / w_out; w * w_out < (j + 1) * w_in; w++)
              best = std::max(best, x.data()[(plane * h_in + h) * w_in + w]);
          wrong += y.data()[at] != best;
        }
        CHECK(wrong == 0);
        const Tensor dy = random_tensor(y.shape(), 2);
        const Tensor dx = adaptive_max_pool2d_backward(reorder("test", dy, layout), shape, {}, got.indices, size);
        double sent = 0, arrived = 0;
        for (int64_t i = 0; i < dy.count(); i++) sent += double(dy.data()[i]);
        for (int64_t i = 0; i < dx.count(); i++) arrived += double(dx.data()[i]);
        CHECK(arrived == doctest::Approx(sent).epsilon(1e-4));
      }
}

TEST_CASE("adaptive_max_pool2d_backward refuses foreign indices") {
  const IndexArray indices = IndexArray::empty("test", "indices", {1, 1, 2, 2});
  std::fill(indices.data(), indices.data() + 4, 25);
  CHECK(message_of([&] {
          adaptive_max_pool2d_backward(random_tensor({1, 1, 2, 2}, 1), {1, 1, 5, 5}, {}, indices, {2, 2});
        }) != "");
}

}  // namespace
}  // namespace convcore

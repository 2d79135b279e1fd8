// dropout: the mask is the one of core/random.h at every size, and the same at any number of threads.
#include "ops/dropout.h"

#include "cpu/kernels.h"
#include "helpers.h"

namespace convcore {
namespace {

using test::check_same_bits;
using test::message_of;
using test::random_tensor;

const RandomKey kKey{0x123456789ABCDEF0, (uint64_t(1) << 40) + 7};

Tensor naive(const Tensor& x, double p) {
  Tensor y = Tensor::empty("test", "want", x.shape());
  const float scale = p < 1 ? float(1 / (1 - p)) : 0.0f;
  for (int64_t i = 0; i < x.count(); i++) {
    const bool dropped = double(uniform_float(philox(kKey, uint64_t(i / 4)).value[i % 4])) < p;
    y.data()[i] = x.data()[i] * (dropped ? 0.0f : scale);
  }
  return y;
}

TEST_CASE("dropout applies the mask of its key at every size") {
  for (int64_t count : test::kCounts)
    for (double p : {0.0, 0.3, 0.5, 1.0}) {
      CAPTURE(count);
      CAPTURE(p);
      const Tensor x = random_tensor({count}, 1);
      check_same_bits(dropout_forward(x, {p, kKey}), naive(x, p));
      check_same_bits(dropout_backward(x, x, {p, kKey}), naive(x, p));
    }
}

TEST_CASE("dropout of a part applies its part of the mask") {
  const Tensor x = random_tensor({150}, 1), want = naive(x, 0.4);
  for (int64_t first : {0, 1, 3, 4, 8, 15, 31, 32, 33, 100})
    for (int64_t count : {0, 1, 2, 7, 32, 50}) {
      CAPTURE(first);
      CAPTURE(count);
      Tensor y = Tensor::empty("test", "y", {count}), part = Tensor::empty("test", "want", {count});
      std::copy(want.data() + first, want.data() + first + count, part.data());
      DropoutMask mask = dropout_mask(0.4);
      mask.first = first;
      cpu::kernels().dropout.apply(count, &kKey, mask, x.data() + first, y.data());
      check_same_bits(y, part);
    }
}

TEST_CASE("dropout gives the same bits at any number of threads") {
  const Tensor x = random_tensor({37, 1013}, 1);
  test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> { return {dropout_forward(x, {0.5, kKey})}; });
  check_same_bits(dropout_forward(x, {0.5, kKey}), naive(x, 0.5));
}

TEST_CASE("dropout refuses what is not a probability") {
  const Tensor x = random_tensor({3}, 1);
  for (double p : {-0.1, 1.1, std::nan("")}) CHECK(message_of([&] { dropout_forward(x, {p, kKey}); }) != "");
}

}  // namespace
}  // namespace convcore

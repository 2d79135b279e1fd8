// optimizer: one step of each rule against those of its contract, at every size.
#include "ops/optimizer.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;

Tensor copy(const Tensor& t) { return test::tensor(t.shape(), std::vector<float>(t.data(), t.data() + t.count())); }

// A sum that stands for the product with `factor`.
Sum times(double factor, const Sum& s) { return {factor * s.value, std::fabs(factor) * s.magnitude, s.terms}; }

Sum plus(const Sum& a, const Sum& b) { return {a.value + b.value, a.magnitude + b.magnitude, a.terms + b.terms}; }

Sum exactly(float value) { return {double(value), std::fabs(double(value)), 1}; }

void check_sgd(int64_t count, const SgdParams& p) {
  const Tensor param = random_tensor({count}, 1), grad = random_tensor({count}, 2), buffer = random_tensor({count}, 3);
  std::vector<Sum> want, want_buffer;
  for (int64_t i = 0; i < count; i++) {
    Sum g = plus(exactly(grad.data()[i]), times(p.weight_decay, exactly(param.data()[i])));
    if (p.momentum != 0) {
      const Sum old = exactly(buffer.data()[i]);
      const Sum b = p.first_step ? g : plus(times(p.momentum, old), times(1 - p.dampening, g));
      want_buffer.push_back(b);
      g = p.nesterov ? plus(g, times(p.momentum, b)) : b;
    }
    want.push_back(plus(exactly(param.data()[i]), times(-p.lr, g)));
  }
  sgd_step(param, grad, p.momentum != 0 ? buffer : Tensor(), p);
  check_close(param, {count}, want);
  if (p.momentum != 0) check_close(buffer, {count}, want_buffer);
}

void check_adam(int64_t count, const AdamParams& p) {
  const Tensor param = random_tensor({count}, 1), grad = random_tensor({count}, 2), mean = random_tensor({count}, 3);
  const Tensor square = random_tensor({count}, 4);
  std::vector<Sum> want, want_mean, want_square;
  const double mean_bias = 1 - std::pow(p.beta1, double(p.step)), square_bias = 1 - std::pow(p.beta2, double(p.step));
  for (int64_t i = 0; i < count; i++) {
    square.data()[i] = 0.5f + std::fabs(square.data()[i]);
    const Sum old = exactly(param.data()[i]);
    const Sum g = plus(exactly(grad.data()[i]), times(p.decoupled ? 0 : p.weight_decay, old));
    const Sum m = plus(times(p.beta1, exactly(mean.data()[i])), times(1 - p.beta1, g));
    const Sum g_square{g.value * g.value, g.magnitude * g.magnitude, 1};
    const Sum s = plus(times(p.beta2, exactly(square.data()[i])), times(1 - p.beta2, g_square));
    want_mean.push_back(plus(m, times(1 - p.beta1, exactly(mean.data()[i]))));  // kept as mean + (1 - beta1)(g - mean)
    want_mean.back().value = m.value;
    want_square.push_back(s);
    const double root = std::sqrt(s.value / square_bias) + p.eps;
    const Sum kept = times(p.decoupled ? 1 - p.lr * p.weight_decay : 1, old);
    want.push_back(plus(kept, times(-p.lr / mean_bias / root, {m.value, 2 * want_mean.back().magnitude, 1})));
  }
  adam_step(param, grad, mean, square, p);
  check_close(param, {count}, want);
  check_close(mean, {count}, want_mean);
  check_close(square, {count}, want_square);
}

TEST_CASE("sgd_step matches its rule at every size") {
  for (int64_t count : test::kCounts)
    for (double weight_decay : {0.0, 0.125}) {
      CAPTURE(count);
      CAPTURE(weight_decay);
      check_sgd(count, {0.1, 0, 0, weight_decay, false, true});
      for (bool first_step : {true, false}) {
        check_sgd(count, {0.1, 0.9, 0.25, weight_decay, false, first_step});
        check_sgd(count, {0.1, 0.9, 0, weight_decay, true, first_step});
      }
    }
}

TEST_CASE("adam_step matches its rule at every size") {
  for (int64_t count : test::kCounts)
    for (bool decoupled : {true, false})
      for (int64_t step : {1, 7}) {
        CAPTURE(count);
        CAPTURE(decoupled);
        CAPTURE(step);
        check_adam(count, {0.01, 0.9, 0.999, 1e-8, 0.125, decoupled, step});
      }
}

// The rules in float64, on values for which no root is near 0.
TEST_CASE("rmsprop_step and adagrad_step match their rules at every size") {
  for (int64_t count : test::kCounts)
    for (bool more : {false, true}) {  // everything that can be left out
      CAPTURE(count);
      CAPTURE(more);
      const RmspropParams rms{0.1, 0.9, 1e-8, more ? 0.125 : 0, more ? 0.5 : 0, more, more ? 0.25 : 0};
      const AdagradParams ada{0.1, more ? 0.5 : 0, 1e-10, more ? 0.125 : 0, 3, more ? 0.25 : 0};
      const Tensor param = random_tensor({count}, 1), grad = random_tensor({count}, 2),
                   square = random_tensor({count}, 3);
      const Tensor mean = random_tensor({count}, 4), buffer = random_tensor({count}, 5);
      for (int64_t i = 0; i < count; i++) square.data()[i] = 4 + std::fabs(square.data()[i]), mean.data()[i] *= 0.25f;
      const Tensor param2 = copy(param), sum = copy(square);
      const Tensor was = copy(param), old_square = copy(square), old_mean = copy(mean), old_buffer = copy(buffer);
      rmsprop_step(param, grad, square, more ? mean : Tensor(), more ? buffer : Tensor(), rms);
      adagrad_step(param2, grad, sum, ada);
      for (int64_t i = 0; i < count; i++) {
        const double p = was.data()[i], sign = p > 0 ? 1 : p < 0 ? -1 : 0;
        const double g = grad.data()[i] + (more ? 0.125 * p + 0.25 * sign : 0);
        const double s = 0.9 * old_square.data()[i] + 0.1 * g * g, m = 0.9 * old_mean.data()[i] + 0.1 * g;
        double h = g / (std::sqrt(more ? s - m * m : s) + 1e-8);
        if (more) h += 0.5 * old_buffer.data()[i];
        const double a = old_square.data()[i] + g * g, rate = more ? 0.1 / 2 : 0.1;
        CHECK(square.data()[i] == doctest::Approx(s).epsilon(1e-6));
        CHECK(param.data()[i] == doctest::Approx(p - 0.1 * h).epsilon(1e-5));
        CHECK(sum.data()[i] == doctest::Approx(a).epsilon(1e-6));
        CHECK(param2.data()[i] == doctest::Approx(p - rate * g / (std::sqrt(a) + 1e-10)).epsilon(1e-5));
        if (more) CHECK(mean.data()[i] == doctest::Approx(m).epsilon(1e-5));
        if (more) CHECK(buffer.data()[i] == doctest::Approx(h).epsilon(1e-5));
      }
    }
}

TEST_CASE("limit_norms scales the rows that are too long") {
  for (int64_t columns : test::kCounts) {
    CAPTURE(columns);
    const Tensor param = random_tensor({3, columns}, 1), was = copy(param);
    limit_norms(param, 1.5);
    for (int64_t r = 0; r < 3; r++) {
      double squares = 0;
      for (int64_t i = 0; i < columns; i++)
        squares += double(was.data()[r * columns + i]) * was.data()[r * columns + i];
      const double scale = std::sqrt(squares) > 1.5 ? 1.5 / std::sqrt(squares) : 1;
      for (int64_t i = 0; i < columns; i++)
        CHECK(param.data()[r * columns + i] == doctest::Approx(scale * was.data()[r * columns + i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("an optimizer step gives the same bits at any number of threads") {
  const Tensor param = random_tensor({97, 1009}, 1), grad = random_tensor({97, 1009}, 2);
  test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
    const Tensor by_sgd = copy(param), buffer = copy(grad), by_adam = copy(param), mean = copy(grad),
                 square = copy(grad);
    for (int64_t i = 0; i < square.count(); i++) square.data()[i] = 1;
    sgd_step(by_sgd, grad, buffer, {0.1, 0.9, 0, 0.01, true, false});
    adam_step(by_adam, grad, mean, square, {0.01, 0.9, 0.999, 1e-8, 0.01, true, 3});
    const Tensor by_rmsprop = copy(param), rms_square = copy(square), rms_mean = copy(grad), rms_buffer = copy(grad);
    const Tensor by_adagrad = copy(param), sum = copy(square), limited = copy(param);
    for (int64_t i = 0; i < square.count(); i++) rms_mean.data()[i] *= 0.1f;
    rmsprop_step(by_rmsprop, grad, rms_square, rms_mean, rms_buffer, {0.1, 0.9, 1e-8, 0.01, 0.9, true, 1e-3});
    adagrad_step(by_adagrad, grad, sum, {0.1, 0.1, 1e-10, 0.01, 3, 1e-3});
    limit_norms(limited, 10);
    return {by_sgd,     buffer,   by_adam,    mean,       square, by_rmsprop,
            rms_square, rms_mean, rms_buffer, by_adagrad, sum,    limited};
  });
}

TEST_CASE("an optimizer step refuses arrays that do not fit") {
  const Tensor a = random_tensor({3}, 1), b = random_tensor({4}, 2);
  CHECK(message_of([&] { sgd_step(a, b, {}, {0.1, 0, 0, 0, false, true}); }) != "");
  CHECK(message_of([&] { sgd_step(a, a, {}, {0.1, 0.9, 0, 0, false, true}); }) != "");
  CHECK(message_of([&] { adam_step(a, a, a, b, {0.1, 0.9, 0.999, 1e-8, 0, false, 1}); }) != "");
}

}  // namespace
}  // namespace convcore

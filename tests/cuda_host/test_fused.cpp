// Convolutions with batch norm in them, the end of a network, and the optimizer of many parameters: each against the
// composition of the CPU's kernels that it stands for.
#include <algorithm>

#include "conv_cases.h"

namespace convcore::test {
namespace {

constexpr double kMomentum = 0.1, kEps = 1e-5;

// Numbers in [0.5, 1.5).
Floats positive_floats(int64_t count, uint64_t seed) {
  Floats values = random_floats(count, seed);
  for (int64_t i = 0; i < count; i++) values[i] = 1 + values[i] / 2;
  return values;
}

Floats copy_of(const Floats& from) {
  Floats to(from.count());
  std::copy(from.data(), from.data() + from.count(), to.data());
  return to;
}

struct Affine {
  Floats mean, scale, bias;
  Affine(int64_t c, uint64_t seed)
      : mean(random_floats(c, seed)), scale(positive_floats(c, seed + 1)), bias(random_floats(c, seed + 2)) {}
  operator BatchNormAffine() const { return {mean, scale, bias}; }  // NOLINT: stands for the pointers
};

// A shortcut of images (h, w, c): with `strided` from larger images with fewer channels.
struct Side {
  int64_t n, h, w, c;
  FusedShortcut shortcut;
  Floats values;
  Side(int64_t n_, int64_t h_, int64_t w_, int64_t c_, bool strided, bool as_gradient, uint64_t seed)
      : n(n_),
        h(h_),
        w(w_),
        c(c_),
        shortcut(sizes(h_, w_, c_, strided, as_gradient)),
        values(random_floats(n_ * shortcut.h * shortcut.w * shortcut.c, seed)) {
    shortcut.values = values;
  }
  static FusedShortcut sizes(int64_t h, int64_t w, int64_t c, bool strided, bool as_gradient) {
    FusedShortcut s{};
    s.h = h, s.w = w, s.c = c;
    if (!strided) return s;
    s.step_h = 2, s.step_w = 2;
    if (as_gradient)
      s.h = (h + 1) / 2, s.w = (w + 1) / 2, s.c = c + 5, s.before = 2;
    else
      s.h = 2 * h - 1, s.w = 2 * w, s.c = c > 4 ? c - 3 : c, s.before = 1;
    return s;
  }
  // value(i, j, k) of every element, as ops/fused_conv.h says it.
  template <typename At>
  Floats expanded(At at) const {
    Floats all(n * h * w * c);
    for (int64_t e = 0; e < all.count(); e++) {
      const int64_t k = e % c, j = e / c % w, i = e / c / w % h, image = e / c / w / h;
      all[e] = at(image, i, j, k);
    }
    return all;
  }
  float read(int64_t image, int64_t i, int64_t j, int64_t k) const {
    const FusedShortcut& s = shortcut;
    return k < 0 || k >= s.c ? 0 : values[((image * s.h + i) * s.w + j) * s.c + k];
  }
  Floats as_residual() const {
    const FusedShortcut& s = shortcut;
    return expanded([&](int64_t image, int64_t i, int64_t j, int64_t k) {
      return read(image, i * s.step_h, j * s.step_w, k - s.before);
    });
  }
  Floats as_gradient() const {
    const FusedShortcut& s = shortcut;
    return expanded([&](int64_t image, int64_t i, int64_t j, int64_t k) {
      return i % s.step_h || j % s.step_w ? 0 : read(image, i / s.step_h, j / s.step_w, k + s.before);
    });
  }
};

// w (c_out, c_in, taps) as (c_out, taps, c_in), or turned as (c_in, taps, c_out)
Floats packed(const Conv2dShape& s, const Floats& w, bool turn) {
  Floats to(w.count());
  for (int64_t k = 0; k < s.c_out; k++)
    for (int64_t c = 0; c < s.c_in; c++)
      for (int64_t t = 0; t < s.taps(); t++)
        to[turn ? (c * s.taps() + t) * s.c_out + k : (k * s.taps() + t) * s.c_in + c] =
            w[(k * s.c_in + c) * s.taps() + t];
  return to;
}

BatchNormShape norm_shape(int64_t n, int64_t plane, int64_t c) { return {n, c, plane, Layout::channels_last}; }

enum class In { plain, normalised, residual, strided_residual, normalised_residual };

struct Options {
  In in;
  bool stored, add, strided_add, relu, y_given, sums;
};

struct FusedCase {
  Conv2dShape s;
  Options options;
  int64_t in_floats() const { return s.n * s.h_in * s.w_in * s.c_in; }
  int64_t out_floats() const { return s.n * s.h_out * s.w_out * s.c_out; }
};

// The input of a convolution: what the kernels take, and what it stands for.
struct Input {
  const FusedCase& c;
  Floats x = random_floats(c.in_floats(), 11);
  Affine affine{c.s.c_in, 12}, residual_affine{c.s.c_in, 15};
  Side side{c.s.n, c.s.h_in, c.s.w_in, c.s.c_in, c.options.in == In::strided_residual, false, 18};
  bool residual() const { return c.options.in >= In::residual; }
  FusedInput fused(float* stored) const {
    FusedInput in{};
    in.x = x;
    if (c.options.in == In::plain) return in;
    in.affine = affine, in.relu = c.options.relu, in.stored = stored;
    if (residual()) in.residual = side.shortcut;
    if (c.options.in == In::normalised_residual) in.residual_affine = residual_affine;
    return in;
  }
  Floats v(const Kernels& k) const {
    if (c.options.in == In::plain) return copy_of(x);
    Floats v(c.in_floats());
    const Floats values = side.as_residual();
    BatchNormResidual add{residual() ? values.data() : nullptr, {}};
    if (c.options.in == In::normalised_residual) add.affine = residual_affine;
    k.batch_norm.apply(norm_shape(c.s.n, c.s.h_in * c.s.w_in, c.s.c_in), 0, c.s.n, x, affine, add, c.options.relu, v);
    return v;
  }
};

void check_forward(const FusedCase& c, Precision precision) {
  const Conv2dShape& s = c.s;
  const With with(precision);
  const Input input{c};
  const Floats w = random_floats(s.c_out * s.c_in * s.taps(), 1), bias = random_floats(s.c_out, 2);
  const Floats weight = positive_floats(s.c_out, 3), shift0 = random_floats(s.c_out, 4);
  const bool running = c.options.add;  // either way
  check_kernel(2 * bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats y(c.out_floats()), stored(c.options.stored ? c.in_floats() : 0);
    Floats mean(s.c_out), rstd(s.c_out), scale(s.c_out), shift(s.c_out);
    Floats running_mean = random_floats(s.c_out, 5), running_var = positive_floats(s.c_out, 6);
    Buffer<unsigned> arrivals(1, 0);
    if (is_cuda(k)) {
      FusedStatistics f{};
      if (c.options.sums) {
        f = {mean, rstd, scale, shift, weight, shift0, nullptr, nullptr, kMomentum, kEps, arrivals};
        if (running) f.running_mean = running_mean, f.running_var = running_var;
      }
      const Floats filters = packed(s, w, false);
      REQUIRE(k.fused_conv.takes(s, c.options.stored));
      k.fused_conv.forward(s, input.fused(c.options.stored ? stored.data() : nullptr), filters, bias, f, y);
    } else {
      const Floats v = input.v(k);
      Floats planar(c.out_floats());
      k.conv2d.planar_forward(s, turned(v, s.n, s.c_in, s.h_in * s.w_in, false), w, bias, planar);
      std::copy(planar.data(), planar.data() + planar.count(), y.data());
      const Floats last = turned(planar, s.n, s.c_out, s.h_out * s.w_out, true);
      std::copy(last.data(), last.data() + last.count(), y.data());
      if (c.options.stored) std::copy(v.data(), v.data() + v.count(), stored.data());
      if (c.options.sums) {
        const BatchNormShape b = norm_shape(s.n, s.h_out * s.w_out, s.c_out);
        Buffer<double> sum(s.c_out, 0), sum_sq(s.c_out, 0);
        k.batch_norm.partial(b, 0, s.n, y, nullptr, sum, sum_sq);
        k.batch_norm.finish(s.c_out, b.per_channel(), nullptr, sum, sum_sq, kMomentum, kEps, mean, rstd,
                            running ? running_mean.data() : nullptr, running ? running_var.data() : nullptr);
        k.batch_norm.factors(s.c_out, rstd, weight, shift0, scale, shift);
      }
    }
    keep(outputs, y), keep(outputs, stored), keep(outputs, arrivals);
    if (!c.options.sums) return;
    for (const Floats* values : {&mean, &rstd, &scale, &shift, &running_mean, &running_var}) keep(outputs, *values);
  });
}

void check_backward(const FusedCase& c, Precision precision) {
  const Conv2dShape& s = c.s;
  const With with(precision);
  const Input input{c};
  const Floats w = random_floats(s.c_out * s.c_in * s.taps(), 1);
  const Floats dz_out = random_floats(c.out_floats(), 31), x_out = random_floats(c.out_floats(), 32);
  const Affine out(s.c_out, 33);
  const Floats slope = random_floats(s.c_out, 36);
  const Side add(s.n, s.h_in, s.w_in, s.c_in, c.options.strided_add, true, 37);
  const Floats rstd = positive_floats(s.c_in, 38), weight = positive_floats(s.c_in, 39);
  const BatchNormInputGradient gradient{out.mean, out.scale, out.bias, slope};
  check_kernel(2 * bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats dz(c.in_floats()), dw(w.count());
    Floats scale(s.c_in), center(s.c_in), slope_in(s.c_in), dweight(s.c_in), dbias(s.c_in);
    Buffer<unsigned> arrivals(1, 0);
    const Floats v = input.v(cpu::kernels());
    if (is_cuda(k)) {
      FusedGradientSums sums{};
      if (c.options.add) sums.add = add.shortcut;
      sums.relu = c.options.relu;
      sums.y = c.options.y_given || c.options.in >= In::residual || c.options.in == In::plain ? v.data() : nullptr;
      if (c.options.sums || !sums.y) sums.x = input.x, sums.affine = input.affine;
      sums.rstd = rstd, sums.weight = weight, sums.arrivals = arrivals;
      sums.scale = scale, sums.center = center, sums.slope = slope_in, sums.dweight = dweight, sums.dbias = dbias;
      FusedInput in = input.fused(nullptr);
      if (c.options.stored) in.stored = v;
      const Floats filters = packed(s, w, true);
      const int64_t splits = k.fused_conv.weight_splits(s);
      Floats parts(splits * w.count());
      k.fused_conv.backward(s, {dz_out, x_out, gradient}, in, filters, sums, dz, parts);
      k.fused_conv.sum_parts(s, parts, dw);
    } else {
      const BatchNormShape b = norm_shape(s.n, s.h_in * s.w_in, s.c_in);
      Floats dx(c.out_floats()), dv(c.in_floats());
      k.batch_norm.backward_apply(norm_shape(s.n, s.h_out * s.w_out, s.c_out), 0, s.n, dz_out, x_out, gradient, dx);
      const Floats planar_dx = turned(dx, s.n, s.c_out, s.h_out * s.w_out, false);
      k.conv2d.planar_backward_input(s, planar_dx, Layout::row_major, w, dv);
      Floats full = turned(dv, s.n, s.c_in, s.h_in * s.w_in, true);
      const Floats other = add.as_gradient();
      for (int64_t e = 0; c.options.add && e < full.count(); e++) full[e] += other[e];
      Buffer<double> sum(s.c_in, 0), sum_x(s.c_in, 0);
      k.batch_norm.backward_partial(b, 0, s.n, full, input.x, input.affine.mean, c.options.relu ? v.data() : nullptr,
                                    dz, sum, sum_x);
      k.batch_norm.backward_finish(s.c_in, b.per_channel(), sum, sum_x, rstd, weight, scale, center, slope_in, dweight,
                                   dbias);
      k.conv2d.planar_backward_weight(s, planar_dx, turned(v, s.n, s.c_in, s.h_in * s.w_in, false), dw);
    }
    keep(outputs, dz), keep(outputs, dw), keep(outputs, arrivals);
    const bool with_sums =
        c.options.sums || !(c.options.y_given || c.options.in >= In::residual || c.options.in == In::plain);
    if (!with_sums) return;
    for (const Floats* values : {&scale, &center, &slope_in, &dweight, &dbias}) keep(outputs, *values);
  });
}

// One row and column of the input belongs to no pixel of the output.
FusedCase uneven_case(const Options& options) {
  const WindowAxis axis{3, 1, 1, 0, 1};
  return {shape_of({"", 2, 8, 6, 7, 8, axis, axis, 1}), options};
}

FusedCase fused_case(int64_t n, int64_t c_in, int64_t h, int64_t w, int64_t c_out, int64_t kernel, int64_t stride,
                     const Options& options) {
  const WindowAxis axis{kernel, stride, kernel / 2, kernel / 2, 1};
  return {shape_of({"", n, c_in, h, w, c_out, axis, axis, 1}), options};
}

//                               in                   stored add    strided relu  y      sums
const FusedCase kFused[] = {
    fused_case(2, 16, 9, 9, 16, 3, 1, {In::normalised, false, false, false, true, false, true}),
    fused_case(2, 16, 9, 9, 16, 3, 1, {In::residual, true, true, false, true, true, true}),
    fused_case(3, 5, 7, 6, 19, 3, 1, {In::residual, true, true, true, true, true, true}),
    fused_case(3, 5, 7, 6, 19, 3, 1, {In::normalised, true, false, false, false, false, true}),
    fused_case(2, 16, 8, 8, 20, 3, 2, {In::strided_residual, true, true, true, true, true, true}),
    fused_case(2, 8, 7, 9, 36, 3, 2, {In::normalised_residual, true, true, false, true, true, true}),
    fused_case(2, 12, 5, 5, 40, 1, 1, {In::normalised, true, true, true, true, false, true}),
    fused_case(2, 12, 6, 5, 40, 1, 2, {In::normalised, false, true, true, true, false, false}),
    fused_case(3, 36, 4, 4, 68, 3, 1, {In::residual, true, true, false, true, true, true}),
    fused_case(1, 3, 20, 19, 16, 3, 1, {In::plain, false, true, false, true, true, false}),
    uneven_case({In::residual, true, true, false, true, true, true}),
    fused_case(1, 4, 20, 19, 8, 5, 1, {In::normalised, true, true, false, true, false, true}),
};

TEST_CASE("fused conv2d forward") {
  for (const FusedCase& c : kFused) {
    CAPTURE(c.s.c_in);
    CAPTURE(c.s.c_out);
    CAPTURE(int(c.options.in));
    check_forward(c, Precision::fp32);
  }
}
TEST_CASE("fused conv2d backward") {
  for (const FusedCase& c : kFused) {
    CAPTURE(c.s.c_in);
    CAPTURE(c.s.c_out);
    CAPTURE(int(c.options.in));
    check_backward(c, Precision::fp32);
  }
}
TEST_CASE("fused conv2d by tensor cores") {
  for (const Precision p : {Precision::tf32x3, Precision::tf32, Precision::bf16})
    for (int i : {1, 2, 4, 8}) {
      if (p == Precision::tf32 && i != 1) continue;
      CAPTURE(int(p));
      CAPTURE(i);
      check_forward(kFused[i], p);
      check_backward(kFused[i], p);
    }
}

TEST_CASE("fused conv2d: one gradient alone, and the same bits in both orders of the calls") {
  const FusedCase& c = kFused[1];
  const Conv2dShape& s = c.s;
  const Kernels& k = cuda_kernels();
  const Floats w = random_floats(s.c_out * s.c_in * s.taps(), 1), dz = random_floats(c.out_floats(), 2);
  const Floats x = random_floats(c.in_floats(), 3);
  FusedInput in{};
  in.x = x;
  const int64_t floats = k.fused_conv.weight_splits(s) * w.count();
  Floats dv(c.in_floats()), parts(floats), dv_alone(c.in_floats()), parts_alone(floats);
  k.fused_conv.backward(s, {dz, nullptr, {}}, in, w, {}, dv, parts);
  k.fused_conv.backward(s, {dz, nullptr, {}}, in, w, {}, dv_alone, nullptr);
  k.fused_conv.backward(s, {dz, nullptr, {}}, in, w, {}, nullptr, parts_alone);
  CHECK(std::equal(dv.data(), dv.data() + dv.count(), dv_alone.data()));
  CHECK(std::equal(parts.data(), parts.data() + floats, parts_alone.data()));
}

TEST_CASE("fused conv2d: what it does not take") {
  const auto& takes = cuda_kernels().fused_conv.takes;
  CHECK(takes(kFused[4].s, true));
  CHECK(!takes(kFused[7].s, true));  // 1x1 of stride 2 does not see every pixel
  Conv2dShape grouped = kFused[0].s;
  grouped.groups = 2;
  CHECK(!takes(grouped, false));
}

// ---- the end of a network -------------------------------------------------------------------------------------------

void check_head(const FusedHeadShape& s, bool relu, int64_t ignored) {
  CAPTURE(s.c);
  CAPTURE(s.classes);
  const BatchNormShape b = norm_shape(s.n, s.pixels, s.c);
  const Floats x = random_floats(s.n * s.pixels * s.c, 1), residual = random_floats(x.count(), 2);
  const Floats w = random_floats(s.classes * s.c, 3), bias = random_floats(s.classes, 4);
  const Affine affine(s.c, 5);
  const Floats rstd = positive_floats(s.c, 8), weight = positive_floats(s.c, 9), scale(1, 0.25f);
  Buffer<int64_t> labels(s.n);
  for (int64_t n = 0; n < s.n; n++) labels[n] = n == ignored ? -100 : n % s.classes;
  const CrossEntropyParams params{-100, Reduction::mean, 0.1f};
  check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) {
    Floats v(x.count()), features(s.n * s.c), logits(s.n * s.classes), loss(s.n), right(s.n);
    Floats dlogits(s.n * s.classes), dfeatures(s.n * s.c), dz(x.count()), dw(w.count()), db(s.classes);
    Floats scale_in(s.c), center(s.c), slope(s.c), dweight(s.c), dbias(s.c);
    Buffer<unsigned> arrivals(1, 0);
    if (is_cuda(k)) {
      FusedInput in{};
      in.x = x, in.affine = affine, in.relu = relu, in.stored = v;
      in.residual.values = residual, in.residual.h = 1, in.residual.w = s.pixels, in.residual.c = s.c;
      k.fused_head.forward(s, in, w, bias, labels, params, scale, features, logits, loss, right, dlogits, dfeatures);
      FusedGradientSums sums{};
      sums.relu = relu, sums.y = v, sums.x = x, sums.affine = affine, sums.rstd = rstd, sums.weight = weight;
      sums.scale = scale_in, sums.center = center, sums.slope = slope, sums.dweight = dweight, sums.dbias = dbias;
      sums.arrivals = arrivals;
      k.fused_head.backward(s, dlogits, dfeatures, features, sums, dz, dw, db);
    } else {
      k.batch_norm.apply(b, 0, s.n, x, affine, {residual, {}}, relu, v);
      for (int64_t e = 0; e < features.count(); e++) {
        double sum = 0;
        for (int64_t p = 0; p < s.pixels; p++) sum += double(v[(e / s.c * s.pixels + p) * s.c + e % s.c]);
        features[e] = float(sum / double(s.pixels));
      }
      const LinearShape linear{s.n, s.c, s.classes};
      k.linear.forward(linear, features, w, bias, logits);
      k.cross_entropy.forward({s.n, s.classes, 1}, params, scale, logits, labels, loss, dlogits);
      k.cross_entropy.right(s.n, s.classes, params.ignore_index, logits, labels, right);
      k.linear.backward_input(linear, dlogits, w, dfeatures);
      k.linear.backward_weight(linear, dlogits, features, dw);
      k.linear.backward_bias(linear, dlogits, db);
      Floats dv(x.count());
      for (int64_t e = 0; e < dv.count(); e++) dv[e] = dfeatures[e / s.c / s.pixels * s.c + e % s.c] / float(s.pixels);
      Buffer<double> sum(s.c, 0), sum_x(s.c, 0);
      k.batch_norm.backward_partial(b, 0, s.n, dv, x, affine.mean, relu ? v.data() : nullptr, dz, sum, sum_x);
      k.batch_norm.backward_finish(s.c, b.per_channel(), sum, sum_x, rstd, weight, scale_in, center, slope, dweight,
                                   dbias);
    }
    for (const Floats* values : {&v, &features, &logits, &loss, &right, &dlogits, &dfeatures, &dz, &dw, &db, &scale_in,
                                 &center, &slope, &dweight, &dbias})
      keep(outputs, *values);
    keep(outputs, arrivals);
  });
}

TEST_CASE("fused head") {
  check_head({3, 64, 64, 10}, true, -1);
  check_head({5, 9, 7, 3}, true, 2);
  check_head({2, 1, 130, 140}, false, -1);
}

// ---- the optimizer of many parameters -------------------------------------------------------------------------------

// A filter whose gradient comes in parts, one with a gradient of its own, a bias, and a large parameter.
struct Parameters {
  std::vector<Floats> param, grad, parts, packed, turned;
  std::vector<std::vector<Floats>> state;
  std::vector<OptimizerPiece> pieces;
  explicit Parameters(int states) {
    add(states, 5 * 3 * 9, 5, 3, 9, 7), add(states, 4 * 6, 4, 6, 1, 0), add(states, 13, 0, 0, 0, 0);
    add(states, 3001, 0, 0, 0, 0), add(states, 70 * 2 * 4, 70, 2, 4, 2);
  }
  void add(int states, int64_t count, int64_t c_out, int64_t c_in, int64_t taps, int64_t splits) {
    const auto seed = uint64_t(10 * pieces.size());
    const auto last = [](std::vector<Floats>& all, Floats values) -> float* {
      all.push_back(std::move(values));
      return all.back();
    };
    OptimizerPiece p{};
    p.count = count, p.c_out = c_out, p.c_in = c_in, p.taps = taps, p.splits = splits;
    p.factors = int64_t(pieces.size()) % 2;
    p.param = last(param, random_floats(count, seed)), p.grad = last(grad, random_floats(count, seed + 1));
    if (splits > 0) p.parts = last(parts, random_floats(splits * count, seed + 2));
    if (taps > 0) p.packed = last(packed, Floats(count)), p.turned = last(turned, Floats(count));
    state.emplace_back();
    for (int i = 0; i < states; i++) {
      Floats values = positive_floats(count, seed + 3 + uint64_t(i));
      for (int64_t e = 0; i == 1 && e < count; e++) values[e] *= 0.3f;  // a mean, whose square is less than the first
      p.state[i] = last(state.back(), std::move(values));
    }
    pieces.push_back(p);
  }
  // What the parts stand for.
  void sum_parts() {
    for (OptimizerPiece& p : pieces)
      for (int64_t e = 0; p.parts && e < p.count; e++) {
        const int64_t c = e % p.c_in, t = e / p.c_in % p.taps, k = e / p.c_in / p.taps;
        float sum = 0;
        for (int64_t i = 0; i < p.splits; i++) sum += p.parts[i * p.count + e];
        p.grad[(k * p.c_in + c) * p.taps + t] = sum;
      }
  }
  void copy_filters() {
    for (OptimizerPiece& p : pieces)
      for (int64_t e = 0; p.taps && e < p.count; e++) {
        const int64_t t = e % p.taps, c = e / p.taps % p.c_in, k = e / p.taps / p.c_in;
        p.packed[(k * p.taps + t) * p.c_in + c] = p.turned[(c * p.taps + t) * p.c_out + k] = p.param[e];
      }
  }
  void keep_all(Outputs& outputs) const {
    for (const auto* all : {&param, &grad, &packed, &turned})
      for (const Floats& values : *all) keep(outputs, values);
    for (const auto& values : state)
      for (const Floats& one : values) keep(outputs, one);
  }
};

// many(table, pieces, count, blocks, factors) and one(table, piece, factors)
template <typename Factors, typename Many, typename One>
void check_optimizer(int states, const Factors& first, const Factors& second, Many many, One one) {
  check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) {
    Parameters p(states);
    Buffer<Factors> factors(2, first);
    factors[1] = second;
    if (is_cuda(k)) {
      Buffer<OptimizerPiece> pieces(int64_t(p.pieces.size()));
      const int64_t blocks = number_blocks(p.pieces.data(), pieces.count());
      std::copy(p.pieces.begin(), p.pieces.end(), pieces.data());
      many(k.optimizer_many, pieces.data(), pieces.count(), blocks, factors.data());
    } else {
      p.sum_parts();
      for (const OptimizerPiece& piece : p.pieces) one(k.optimizer, piece, &factors[piece.factors]);
      p.copy_filters();
    }
    p.keep_all(outputs);
  });
}

TEST_CASE("optimizers of many parameters") {
  for (int states : {0, 1})
    check_optimizer(
        states, sgd_factors({0.1, states * 0.9, 0, 1e-4, states > 0, false, 0}),
        sgd_factors({0.2, states * 0.8, 0.1, 0, false, false, 1e-3}),
        [](const OptimizerManyKernels& k, auto... a) { k.sgd(a...); },
        [](const OptimizerKernels& k, const OptimizerPiece& p, const SgdFactors* f) {
          k.sgd(p.count, f, p.param, p.grad, p.state[0]);
        });
  check_optimizer(
      2, adam_factors({1e-2, 0.9, 0.99, 1e-8, 1e-2, true, 3, 0}), adam_factors({1e-3, 0.9, 0.99, 1e-8, 0, false, 1, 0}),
      [](const OptimizerManyKernels& k, auto... a) { k.adam(a...); },
      [](const OptimizerKernels& k, const OptimizerPiece& p, const AdamFactors* f) {
        k.adam(p.count, f, p.param, p.grad, p.state[0], p.state[1]);
      });
  for (int states : {1, 3})
    check_optimizer(
        states, rmsprop_factors({1e-2, 0.9, 1e-2, 0, 0.5, states > 1, 0}),
        rmsprop_factors({1e-3, 0.9, 1e-2, 1e-3, 0.5, states > 1, 0}),
        [](const OptimizerManyKernels& k, auto... a) { k.rmsprop(a...); },
        [](const OptimizerKernels& k, const OptimizerPiece& p, const RmspropFactors* f) {
          k.rmsprop(p.count, f, p.param, p.grad, p.state[0], p.state[1], p.state[2]);
        });
  check_optimizer(
      1, adagrad_factors({1e-2, 0, 1e-8, 0, 1, 0}), adagrad_factors({1e-3, 0.1, 1e-8, 1e-3, 5, 0}),
      [](const OptimizerManyKernels& k, auto... a) { k.adagrad(a...); },
      [](const OptimizerKernels& k, const OptimizerPiece& p, const AdagradFactors* f) {
        k.adagrad(p.count, f, p.param, p.grad, p.state[0]);
      });
}

TEST_CASE("copies of filters") {
  check_kernel(0, [&](const Kernels& k, Outputs& outputs) {
    Parameters p(0);
    if (is_cuda(k)) {
      Buffer<OptimizerPiece> pieces(int64_t(p.pieces.size()));
      const int64_t blocks = number_blocks(p.pieces.data(), pieces.count());
      std::copy(p.pieces.begin(), p.pieces.end(), pieces.data());
      k.optimizer_many.pack(pieces, pieces.count(), blocks);
    } else {
      p.copy_filters();
    }
    p.keep_all(outputs);
  });
}

}  // namespace
}  // namespace convcore::test

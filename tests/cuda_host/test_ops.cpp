// Every kernel that is not a product: the CPU's kernel and the CUDA kernel on the same arguments.
#include "helpers.h"

namespace convcore::test {
namespace {

const int64_t kCounts[] = {0, 1, 3, 4, 7, 64, 1030};

TEST_CASE("activations") {
  for (const int64_t count : kCounts) {
    Floats x = random_floats(count, 1), dy = random_floats(count, 2);
    if (count > 2) x[0] = NAN, x[1] = 0.0f, x[2] = -INFINITY;
    const ActivationParams params{1.2f, 0.7f};
    for (int a = 0; a < kActivations; a++) {
      CAPTURE(name_of(Activation(a)));
      check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
        Floats y(count), dx(count);
        k.activation.forward[a](count, params, x, y);
        k.activation.backward[a](count, params, dy, x, dx);
        keep(outputs, y);
        keep(outputs, dx);
      });
    }
  }
}

TEST_CASE("add, also of arrays that are not aligned to 16 bytes") {
  for (const int64_t count : kCounts)
    for (const int64_t skip : {0, 1}) {
      const Floats a = random_floats(count + skip, 1), b = random_floats(count + skip, 2);
      check_kernel(0, [&](const Kernels& k, Outputs& outputs) {
        Floats y(count + skip, 0.0f);
        k.add.forward(count, a + skip, b + skip, y + skip);
        keep(outputs, y);
      });
    }
}

TEST_CASE("optimizers") {
  for (const int64_t count : kCounts) {
    const Floats param = random_floats(count, 1), grad = random_floats(count, 2), first = random_floats(count, 3);
    const auto copy = [&](const Floats& from) {
      Floats to(count);
      for (int64_t i = 0; i < count; i++) to[i] = from[i];
      return to;
    };
    const Penalty none{0, 0}, both{0.01f, 0.003f};
    for (const bool nesterov : {false, true})
      for (const bool first_step : {false, true})
        check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
          const Floats p = copy(param), buffer = copy(first), plain = copy(param);
          k.optimizer.sgd(count, on_device(SgdFactors{0.1f, 0.9f, 0.8f, both, nesterov, first_step}), p, grad, buffer);
          k.optimizer.sgd(count, on_device(SgdFactors{0.1f, 0, 1, none, false, first_step}), plain, grad, nullptr);
          for (const Floats* values : {&p, &buffer, &plain}) keep(outputs, *values);
        });
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      const Floats p = copy(param), mean = copy(first), square(count, 0.5f);
      k.optimizer.adam(count, on_device(AdamFactors{0.99f, both, 0.1f, 0.999f, 0.001f, 0.01f, 1.5f, 1e-8f}), p, grad,
                       mean, square);
      for (const Floats* values : {&p, &mean, &square}) keep(outputs, *values);
    });
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      const Floats p = copy(param), plain = copy(param), mean(count, 0.1f), buffer = copy(first);
      const Floats square(count, 0.5f), plain_square(count, 0.5f), sum(count, 0.25f), other = copy(param);
      k.optimizer.rmsprop(count, on_device(RmspropFactors{0.01f, 0.9f, 0.1f, 1e-8f, 0.8f, both}), p, grad, square, mean,
                          buffer);
      k.optimizer.rmsprop(count, on_device(RmspropFactors{0.01f, 0.9f, 0.1f, 1e-8f, 0, none}), plain, grad,
                          plain_square, nullptr, nullptr);
      k.optimizer.adagrad(count, on_device(AdagradFactors{0.02f, 1e-8f, both}), other, grad, sum);
      for (const Floats* values : {&p, &square, &mean, &buffer, &plain, &plain_square, &other, &sum})
        keep(outputs, *values);
    });
  }
  check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
    const Floats rows = random_floats(5 * 70, 1);
    k.optimizer.limit_norms(5, 70, 4.8f, rows);
    keep(outputs, rows);
  });
}

TEST_CASE("dropout: the same elements as on the CPU, from any first position") {
  for (const int64_t count : kCounts)
    for (const int64_t first : {0, 1, 6}) {
      const Floats x = random_floats(count, 1);
      check_kernel(0, [&](const Kernels& k, Outputs& outputs) {
        Floats y(count);
        k.dropout.apply(count, on_device(RandomKey{77, 5}), {1 << 23, 2.0f, first}, x, y);
        keep(outputs, y);
      });
    }
}

TEST_CASE("softmax, log_softmax and cross_entropy") {
  for (const SoftmaxShape& s : {SoftmaxShape{3, 10, 1}, {2, 5, 7}, {1, 1, 1}, {0, 4, 1}, {9, 100, 1}}) {
    const int64_t outer = s.outer, c = s.c, inner = s.inner;
    const int64_t count = outer * c * inner, samples = outer * inner;
    CAPTURE(c);
    CAPTURE(inner);
    const Floats x = random_floats(count, 1), dy = random_floats(count, 2);
    for (const int log : {0, 1})
      check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
        Floats y(count), dx(count);
        k.softmax.forward[log](s, x, y);
        k.softmax.backward[log](s, dy, y, dx);
        keep(outputs, y);
        keep(outputs, dx);
      });
    Buffer<int64_t> target(samples);
    for (int64_t i = 0; i < samples; i++) target[i] = i % 4 == 3 ? -100 : i % c;
    for (const float smoothing : {0.0f, 0.1f})
      for (const bool per_sample : {false, true})
        check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
          const CrossEntropyShape shape{outer, c, inner};
          Floats loss(samples), gradient(count), dx(count);
          k.cross_entropy.forward(shape, {-100, Reduction::mean, smoothing}, on_device(0.25f), x, target, loss,
                                  gradient);
          const Floats up = random_floats(per_sample ? samples : 1, 3);
          k.cross_entropy.backward(shape, up, per_sample, gradient, dx);
          for (const Floats* values : {&loss, &gradient, &dx}) keep(outputs, *values);
        });
    if (inner != 1) continue;
    const Floats shares = random_floats(count, 4);
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats loss(samples), gradient(count);
      k.cross_entropy.forward_shares({outer, c, 1}, {-100, Reduction::mean, 0.1f}, on_device(0.25f), x, shares, loss,
                                     gradient);
      keep(outputs, loss);
      keep(outputs, gradient);
    });
  }
}

TEST_CASE("mse_loss") {
  for (const int64_t count : {0, 5, 64, 4096, 9000}) {
    const Floats x = random_floats(count, 1), target = random_floats(count, 2), dy = random_floats(count, 3);
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats loss(count), grad(count), grads(count);
      Buffer<double> sums((count + kMseShard - 1) / kMseShard);
      k.mse_loss.squares(count, x, target, loss);
      k.mse_loss.shard_sums(count, x, target, sums);
      if (count > 0) k.mse_loss.backward(count, 0.5f, dy, false, x, target, grad);
      k.mse_loss.backward(count, 0.5f, dy, true, x, target, grads);
      for (const Floats* values : {&loss, &grad, &grads}) keep(outputs, *values);
      keep(outputs, sums);
    });
  }
}

struct Pool {
  int64_t n, c, h, w;
  WindowAxis rows, columns;
};
const Pool kPools[] = {
    {2, 3, 6, 8, {2, 2, 0, 0, 1}, {2, 2, 0, 0, 1}}, {1, 2, 7, 9, {3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}},
    {2, 1, 8, 7, {3, 1, 1, 1, 2}, {2, 3, 1, 0, 1}}, {1, 5, 1, 9, {1, 1, 0, 0, 1}, {3, 3, 1, 1, 1}},
    {0, 2, 4, 4, {2, 2, 0, 0, 1}, {2, 2, 0, 0, 1}},
};

TEST_CASE("pooling, in both orders of memory") {
  for (const Pool& p : kPools)
    for (const bool last : {false, true}) {
      Pool2dShape s{p.n * p.c, p.h, p.w, 0, 0, {p.rows, p.columns}};
      s.h_out = window_output_size("test", "H", p.h, p.rows), s.w_out = window_output_size("test", "W", p.w, p.columns);
      CAPTURE(p.h);
      CAPTURE(last);
      const int64_t in = s.planes * p.h * p.w, out = s.planes * s.h_out * s.w_out;
      const Floats x = random_floats(in, 1), dy = random_floats(out, 2);
      check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
        Floats y(out), dx(in);
        Buffer<int32_t> indices(out);
        if (last) {
          k.max_pool2d.forward_channels_last(s, p.c, x, y, indices);
          CHECK(k.max_pool2d.backward_channels_last(s, p.c, dy, indices, dx));
        } else {
          k.max_pool2d.forward(s, x, y, indices);
          CHECK(k.max_pool2d.backward(s, dy, indices, dx));
        }
        keep(outputs, y);
        keep(outputs, indices);
        keep(outputs, dx);
      });
      if (p.rows.dilation != 1) continue;
      for (const bool count_padding : {false, true})
        for (const int64_t divisor : {0, 5})
          check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
            const AvgPool2dShape shape{s, count_padding, divisor};
            Floats y(out), dx(in);
            if (last) {
              k.avg_pool2d.forward_channels_last(shape, p.c, x, y);
              k.avg_pool2d.backward_channels_last(shape, p.c, dy, dx);
            } else {
              k.avg_pool2d.forward(shape, x, y);
              k.avg_pool2d.backward(shape, dy, dx);
            }
            keep(outputs, y);
            keep(outputs, dx);
          });
    }
}

TEST_CASE("adaptive average pooling") {
  for (const AdaptiveAvgPool2dShape& s :
       {AdaptiveAvgPool2dShape{6, 8, 8, 1, 1}, {6, 7, 5, 3, 4}, {6, 2, 3, 5, 7}, {0, 4, 4, 2, 2}}) {
    const int64_t in = s.planes * s.h_in * s.w_in, out = s.planes * s.h_out * s.w_out;
    CAPTURE(s.h_out);
    const Floats x = random_floats(in, 1), dy = random_floats(out, 2);
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats y(out), dx(in), y_last(out), dx_last(in);
      k.adaptive_avg_pool2d.forward(s, x, y);
      k.adaptive_avg_pool2d.backward(s, dy, dx);
      k.adaptive_avg_pool2d.forward_channels_last(s, 3, x, y_last);
      k.adaptive_avg_pool2d.backward_channels_last(s, 3, dy, dx_last);
      for (const Floats* values : {&y, &dx, &y_last, &dx_last}) keep(outputs, *values);
    });
  }
}

TEST_CASE("pad_channels") {
  const PadChannelsShape s{2, 3, 5, 4, 7, 3, 2, 2, 2, 2};
  const Floats x = random_floats(2 * 3 * 5 * 4, 1), dy = random_floats(2 * 7 * 3 * 2, 2);
  check_kernel(0, [&](const Kernels& k, Outputs& outputs) {
    Floats y(dy.count()), dx(x.count()), y_last(dy.count()), dx_last(x.count());
    k.pad_channels.forward(s, x, y);
    k.pad_channels.backward(s, dy, dx);
    k.pad_channels.forward_channels_last(s, x, y_last);
    k.pad_channels.backward_channels_last(s, dy, dx_last);
    for (const Floats* values : {&y, &dx, &y_last, &dx_last}) keep(outputs, *values);
  });
}

TEST_CASE("reorder") {
  for (const auto [batch, rows, columns] :
       {std::array<int64_t, 3>{2, 3, 5}, {1, 33, 70}, {3, 64, 1}, {0, 4, 4}, {1500, 2, 3}}) {
    const Floats in = random_floats(batch * rows * columns, 1);
    check_kernel(0, [&, batch = batch, rows = rows, columns = columns](const Kernels& k, Outputs& outputs) {
      Floats out(in.count());
      k.reorder.transpose(batch, rows, columns, in, out);
      keep(outputs, out);
    });
  }
}

TEST_CASE("gather_images: the same crops and mirrors as on the CPU") {
  const GatherImagesShape s{3, 5, 6};
  const int64_t pixels = s.c * s.h * s.w;
  const Floats floats = random_floats(7 * pixels, 1), scale = random_floats(3, 2), shift = random_floats(3, 3);
  Buffer<uint8_t> bytes(7 * pixels);
  for (int64_t i = 0; i < bytes.count(); i++) bytes[i] = uint8_t(i * 37);
  Buffer<int64_t> indices(4);
  for (int64_t i = 0; i < 4; i++) indices[i] = (5 * i + 2) % 7;
  for (const Layout layout : {Layout::row_major, Layout::channels_last})
    for (const bool augment : {false, true})
      check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
        GatherImagesParams p{};
        p.pad = augment ? 2 : 0, p.flip = augment, p.key = {11, 22}, p.layout = layout;
        if (augment) p.scale = scale, p.shift = shift;
        Floats y(4 * pixels), z(4 * pixels, 0.0f);
        k.gather_images.from_uint8(s, p, on_device(p.key), bytes, indices, 0, 4, y);
        k.gather_images.from_float(s, p, on_device(p.key), floats, nullptr, 1, 3, z);
        keep(outputs, y);
        keep(outputs, z);
      });
}

TEST_CASE("batch_norm, whole and in pieces") {
  for (const auto [n, c, plane] : {std::array<int64_t, 3>{3, 5, 4}, {2, 33, 9}, {5, 16, 300}, {4, 7, 1}}) {
    const BatchNormShape s{n, c, plane, Layout::channels_last};
    const int64_t count = n * c * plane;
    CAPTURE(c);
    Floats x = random_floats(count, 1);
    for (int64_t i = 0; i < count; i++) x[i] += 3;  // a mean that is not small beside the deviation
    const Floats dy = random_floats(count, 2), weight = random_floats(c, 3), bias = random_floats(c, 4);
    const Floats residual = random_floats(count, 5);
    for (const bool training : {true, false})
      check_kernel(1e-5, [&, c = c](const Kernels& k, Outputs& outputs) {
        Floats mean(c), rstd(c), running_mean(c, 0.5f), running_var(c, 2.0f), y(count), dx(count), dw(c), db(c);
        k.batch_norm.statistics(s, x, 0.1, 1e-5, mean, rstd, running_mean, running_var);
        k.batch_norm.normalize(s, x, mean, rstd, weight, bias, y);
        k.batch_norm.backward(s, training, dy, x, mean, rstd, weight, dx, dw, db);
        for (const Floats* values : {&mean, &rstd, &running_mean, &running_var, &y, &dx, &dw, &db})
          keep(outputs, *values);
      });
    check_kernel(1e-5, [&, n = n, c = c, plane = plane](const Kernels& k, Outputs& outputs) {
      Buffer<double> sum(c, 0.0), squares(c, 0.0), sum_dz(c, 0.0), sum_dz_x(c, 0.0);
      Floats mean(c), rstd(c), y(count), dz(count), dx(count), scale(c), center(c), slope(c), dw(c), db(c);
      k.batch_norm.partial(s, 0, 1, x, bias, sum, squares);
      k.batch_norm.partial(s, 1, n, x, bias, sum, squares);
      k.batch_norm.finish(c, n * plane, bias, sum, squares, 0, 1e-5, mean, rstd, nullptr, nullptr);
      k.batch_norm.apply(s, 0, n, x, {mean, rstd, bias}, {residual, {nullptr, nullptr, nullptr}}, true, y);
      k.batch_norm.backward_partial(s, 0, n, dy, x, mean, y, dz, sum_dz, sum_dz_x);
      k.batch_norm.backward_finish(c, n * plane, sum_dz, sum_dz_x, rstd, weight, scale, center, slope, dw, db);
      k.batch_norm.backward_apply(s, 0, n, dz, x, {mean, scale, center, slope}, dx);
      for (const Floats* values : {&mean, &rstd, &y, &dz, &dx, &scale, &center, &slope, &dw, &db})
        keep(outputs, *values);
    });
  }
}

}  // namespace
}  // namespace convcore::test

#include "ops/batch_norm.h"

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

// A dense layer's output (N, C) is a batch of images of one pixel.
BatchNormShape infer(const Tensor& array) {
  const Shape& x = array.shape();
  if (x.size() < 2)
    fail("batch_norm", "x has the wrong number of dimensions", "at least 2 (N, C, ...)",
         std::to_string(x.size()) + " (x has shape " + to_string(x) + ")");
  checked_count("batch_norm", "x", x);
  const int64_t plane = checked_count("batch_norm", "x", Shape(x.begin() + 2, x.end()));
  return {x[0], x[1], plane, plane == 1 ? Layout::channels_last : array.layout()};
}

void expect_per_channel(const char* name, const Tensor& array, const BatchNormShape& s) {
  if (array.given()) expect_shape("batch_norm", name, array.shape(), {s.c}, "one value per channel of x");
}

BatchNormShape check(const Tensor& x, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                     const Tensor& bias, const BatchNormParams& params) {
  const BatchNormShape s = infer(x);
  expect_per_channel("running_mean", running_mean, s);
  expect_per_channel("running_var", running_var, s);
  expect_per_channel("weight", weight, s);
  expect_per_channel("bias", bias, s);
  if (running_mean.given() != running_var.given())
    fail("batch_norm", "running statistics are incomplete", "running_mean and running_var together, or neither",
         running_mean.given() ? "running_mean alone" : "running_var alone");
  if (params.training && s.per_channel() == 1)
    fail("batch_norm", "x has too few values per channel", "more than 1 in training (their variance is needed)",
         "1 (x has shape " + to_string(x.shape()) + ")");
  if (params.training ? !(params.eps > 0) : !(params.eps >= 0))
    fail("batch_norm", "eps is out of range", params.training ? "more than 0 in training" : "at least 0",
         std::to_string(params.eps));
  if (!(params.momentum >= 0 && params.momentum <= 1))  // NaN fails too
    fail("batch_norm", "momentum is out of range", "a number from 0 to 1", std::to_string(params.momentum));
  return s;
}

void expect_running(const char* op, const Tensor& running_mean, const BatchNormParams& params) {
  if (!params.training && !running_mean.given())
    fail(op, "running_mean and running_var are missing", "two arrays (C,) when training is False", "None");
}

// What the forward normalises with; updates the running statistics when they are handed in.
BatchNormSaved find_statistics(const char* op, const BatchNormShape& s, const Tensor& x, const Tensor& running_mean,
                               const Tensor& running_var, const BatchNormParams& params, bool update) {
  BatchNormSaved found{Tensor::empty(op, "mean", {s.c}), Tensor::empty(op, "rstd", {s.c})};
  const auto& kernels = current_kernels().batch_norm;
  if (params.training) {
    update = update && s.per_channel() > 0;
    kernels.statistics(s, x.data(), params.momentum, params.eps, found.mean.data(), found.rstd.data(),
                       update ? running_mean.data() : nullptr, update ? running_var.data() : nullptr);
  } else {
    copy_bytes(x.device(), found.mean.data(), x.device(), running_mean.data(), s.c * int64_t(sizeof(float)));
    kernels.reciprocal_std(s.c, running_var.data(), params.eps, found.rstd.data());
  }
  return found;
}

// The kernels of the GPU take channels-last images alone: what lies in row-major order goes there and back as images of
// one row.
bool needs_images(const Tensor& x, const BatchNormShape& s) {
  return x.device() == Device::cuda && s.layout == Layout::row_major;
}

Tensor as_images(const char* op, const Tensor& x, const BatchNormShape& s) {
  const Shape images = {s.n, s.c, 1, s.plane};
  if (x.layout() == Layout::channels_last)
    return Tensor(x.data(), images, x.owner(), Layout::channels_last, x.device());
  return reorder(op, x.reshaped(images), Layout::channels_last);
}

// The images in the shape of x. Those that are 4-D stay channels-last.
Tensor like(const char* op, const Tensor& images, const Tensor& x) {
  if (!images.given()) return images;
  if (x.shape().size() == 4)
    return Tensor(images.data(), x.shape(), images.owner(), Layout::channels_last, images.device());
  return reorder(op, images, Layout::row_major).reshaped(x.shape());
}

}  // namespace

BatchNormResult batch_norm_forward(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                                   const Tensor& weight, const Tensor& bias, const BatchNormParams& params) {
  const BatchNormShape s = check(x, running_mean, running_var, weight, bias, params);
  expect_running("batch_norm", running_mean, params);
  const OnDeviceOf on(
      "batch_norm",
      {{"x", x}, {"running_mean", running_mean}, {"running_var", running_var}, {"weight", weight}, {"bias", bias}});
  if (needs_images(x, s)) {
    BatchNormResult turned =
        batch_norm_forward(as_images("batch_norm", x, s), running_mean, running_var, weight, bias, params);
    turned.y = like("batch_norm", turned.y, x);
    return turned;
  }
  BatchNormResult result;
  result.y = Tensor::empty("batch_norm", "y", x.shape(), x.layout());
  result.saved = find_statistics("batch_norm", s, x, running_mean, running_var, params, true);
  current_kernels().batch_norm.normalize(s, x.data(), result.saved.mean.data(), result.saved.rstd.data(), weight.data(),
                                         bias.data(), result.y.data());
  return result;
}

BatchNormGrads batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& running_mean,
                                   const Tensor& running_var, const Tensor& weight, const BatchNormParams& params,
                                   const BatchNormSaved& saved, bool need_dx, bool need_dweight, bool need_dbias) {
  const char* op = "batch_norm_backward";
  const BatchNormShape s = check(x, running_mean, running_var, weight, {}, params);
  expect_shape(op, "dy", dy.shape(), x.shape(), "the shape of x");
  if (saved.mean.given()) {
    expect_shape(op, "saved mean", saved.mean.shape(), {s.c}, "one value per channel of x");
    expect_shape(op, "saved rstd", saved.rstd.shape(), {s.c}, "one value per channel of x");
  } else {
    expect_running(op, running_mean, params);
  }
  const OnDeviceOf on(
      op, {{"dy", dy}, {"x", x}, {"running_mean", running_mean}, {"weight", weight}, {"saved mean", saved.mean}});
  if (needs_images(x, s)) {
    BatchNormGrads turned = batch_norm_backward(as_images(op, dy, s), as_images(op, x, s), running_mean, running_var,
                                                weight, params, saved, need_dx, need_dweight, need_dbias);
    turned.dx = like(op, turned.dx, x);
    return turned;
  }
  BatchNormGrads grads;
  if (need_dx) grads.dx = Tensor::empty(op, "dx", x.shape(), x.layout());
  if (need_dweight) grads.dweight = Tensor::empty(op, "dweight", {s.c});
  if (need_dbias) grads.dbias = Tensor::empty(op, "dbias", {s.c});
  const BatchNormSaved used =
      saved.mean.given() ? saved : find_statistics(op, s, x, running_mean, running_var, params, false);
  const Tensor gradient = reorder(op, dy, x.layout());
  current_kernels().batch_norm.backward(s, params.training, gradient.data(), x.data(), used.mean.data(),
                                        used.rstd.data(), weight.data(), grads.dx.data(), grads.dweight.data(),
                                        grads.dbias.data());
  return grads;
}

}  // namespace convcore

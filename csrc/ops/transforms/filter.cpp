#include <cmath>

#include "ops/kernels.h"
#include "ops/transforms/transform.h"

namespace convcore {
namespace {

// values: mean, sigma, clip. The numbers of the stream from 0 on: those of the values of the image, in order.
class Noise final : public Transform {
 public:
  explicit Noise(const std::vector<double>& v) : mean_(float(v[0])), sigma_(float(v[1])), clip_(v[2] != 0) {}
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float*, float*) const override {
    current_kernels().transform_images.noise(in.count(), numbers.key(), mean_, sigma_, clip_, x);
    return false;
  }
  int64_t work() const override { return 20; }

 private:
  const float mean_, sigma_;
  const bool clip_;
};

// Samples of the bell curve of `sigma`, in pixels, at the `size` pixels around its centre; their sum is 1.
std::vector<float> bell(int64_t size, double sigma) {
  std::vector<double> values(static_cast<size_t>(size));
  double sum = 0;
  for (int64_t i = 0; i < size; i++) {
    const double d = double(i - size / 2) / sigma;
    sum += values[size_t(i)] = std::exp(-0.5 * d * d);
  }
  std::vector<float> weights;
  for (double value : values) weights.push_back(float(value / sum));
  return weights;
}

// values: rows and columns of the kernel, both odd; the lowest and the highest sigma. Number 0: sigma.
class Blur final : public Transform {
 public:
  explicit Blur(const std::vector<double>& v)
      : rows_(int64_t(v[0])), columns_(int64_t(v[1])), low_(v[2]), high_(v[3]) {}
  ImageShape infer(const ImageShape& in) const override {
    if (rows_ / 2 >= in.h || columns_ / 2 >= in.w)
      fail("GaussianBlur", "kernel_size is too large to mirror the border",
           "at most " + size_of({1, 2 * in.h - 1, 2 * in.w - 1}), size_of({1, rows_, columns_}));
    return in;
  }
  int64_t scratch(const ImageShape& in) const override { return in.h * in.w + in.w + columns_; }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float* scratch) const override {
    const double sigma = numbers.between(0, low_, high_);
    const std::vector<float> rows = bell(rows_, sigma), columns = bell(columns_, sigma);
    current_kernels().transform_images.blur(in, rows_, rows.data(), columns_, columns.data(), x, scratch, y);
    return true;
  }
  int64_t work() const override { return rows_ + columns_; }

 private:
  const int64_t rows_, columns_;
  const double low_, high_;
};

class Sobel final : public Transform {
 public:
  int64_t scratch(const ImageShape& in) const override { return 2 * (in.w + 2); }
  bool apply(const Numbers&, const ImageShape& in, float* x, float* y, float* scratch) const override {
    current_kernels().transform_images.sobel(in, x, scratch, y);
    return true;
  }
  int64_t work() const override { return 10; }
};

}  // namespace

std::unique_ptr<Transform> make_filter(const TransformStage& stage) {
  const std::vector<double>& v = stage.values;
  if (stage.kind == "noise") return std::make_unique<Noise>(v);
  if (stage.kind == "blur") return std::make_unique<Blur>(v);
  if (stage.kind == "sobel") return std::make_unique<Sobel>();
  return nullptr;
}

}  // namespace convcore

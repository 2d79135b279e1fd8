#include <algorithm>
#include <cmath>

#include "ops/kernels.h"
#include "ops/transforms/transform.h"

namespace convcore {
namespace {

constexpr double kPi = 3.14159265358979323846;

// values: h, w (0: those of the image), padding left, top, right, bottom, random, fill...
// Numbers 0 and 1: the place of the window in the padded image, from the top and from the left.
class Crop final : public Transform {
 public:
  explicit Crop(const std::vector<double>& v)
      : h_(int64_t(v[0])),
        w_(int64_t(v[1])),
        left_(int64_t(v[2])),
        top_(int64_t(v[3])),
        right_(int64_t(v[4])),
        bottom_(int64_t(v[5])),
        random_(v[6] != 0),
        fill_(name(), "fill", v, 7, v.size()) {}

  ImageShape infer(const ImageShape& in) const override {
    const ImageShape out = size(in);
    const ImageShape padded{in.c, in.h + top_ + bottom_, in.w + left_ + right_};
    if (out.h > padded.h || out.w > padded.w)
      fail(name(), "size is larger than the images with their padding", "at most " + size_of(padded), size_of(out));
    fill_.expect(in.c);
    return out;
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float*) const override {
    const ImageShape out = size(in);
    const int64_t down = in.h + top_ + bottom_ - out.h, across = in.w + left_ + right_ - out.w;
    // The middle is rounded to the even side, as in Python.
    const int64_t top = random_ ? numbers.below(0, down + 1) : int64_t(std::nearbyint(double(down) / 2));
    const int64_t left = random_ ? numbers.below(1, across + 1) : int64_t(std::nearbyint(double(across) / 2));
    current_kernels().transform_images.crop(in, {top - top_, left - left_, out.h, out.w}, fill_.of(in.c).data(), x, y);
    return true;
  }
  int64_t work() const override { return 1; }

 private:
  const char* name() const { return random_ ? "RandomCrop" : "CenterCrop"; }
  ImageShape size(const ImageShape& in) const { return {in.c, h_ > 0 ? h_ : in.h, w_ > 0 ? w_ : in.w}; }

  const int64_t h_, w_, left_, top_, right_, bottom_;
  const bool random_;
  const PerChannel fill_;
};

// values: horizontal, p. Number 0: whether.
class Flip final : public Transform {
 public:
  explicit Flip(const std::vector<double>& v) : horizontal_(v[0] != 0), p_(v[1]) {}
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float*) const override {
    if (!numbers.chance(0, p_)) return false;
    current_kernels().transform_images.flip(in, horizontal_, x, y);
    return true;
  }
  int64_t work() const override { return 1; }

 private:
  const bool horizontal_;
  const double p_;
};

// values: the lowest and the highest angle in degrees, fill... Number 0: the angle.
class Rotation final : public Transform {
 public:
  explicit Rotation(const std::vector<double>& v)
      : low_(v[0]), high_(v[1]), fill_("RandomRotation", "fill", v, 2, v.size()) {}
  ImageShape infer(const ImageShape& in) const override {
    fill_.expect(in.c);
    return in;
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float*) const override {
    const double angle = numbers.between(0, low_, high_) * (kPi / 180);
    current_kernels().transform_images.rotate(in, float(std::cos(angle)), float(std::sin(angle)), fill_.of(in.c).data(),
                                              x, y);
    return true;
  }
  int64_t work() const override { return 20; }

 private:
  const double low_, high_;
  const PerChannel fill_;
};

// values: the quarter turns to choose from, 0 to 3. Number 0: which.
class QuarterTurns final : public Transform {
 public:
  explicit QuarterTurns(const std::vector<double>& v) : turns_(v.begin(), v.end()) {}
  ImageShape infer(const ImageShape& in) const override {
    const auto odd = [](int64_t turns) { return turns % 2 == 1; };
    const bool all = std::all_of(turns_.begin(), turns_.end(), odd);
    if (in.h == in.w || std::none_of(turns_.begin(), turns_.end(), odd)) return in;
    if (all) return {in.c, in.w, in.h};
    fail("RandomRotation90", "degrees give images of different sizes",
         "square images, or angles that all keep or all swap height and width", size_of(in));
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float*) const override {
    const int64_t turns = turns_[size_t(numbers.below(0, int64_t(turns_.size())))];
    if (turns == 0) return false;
    current_kernels().transform_images.quarter_turns(in, turns, x, y);
    return true;
  }

 private:
  const std::vector<int64_t> turns_;
};

// The weights of linear interpolation from pixels begin .. begin + length - 1, of which there are `size` outputs; where
// the picture shrinks, the triangle grows with it and averages (antialias), as in Pillow. `first` counts from begin.
class LinearTaps {
 public:
  LinearTaps(int64_t length, int64_t size) : size_(size) {
    const double step = double(length) / double(size), reach = std::max(step, 1.0);
    taps_ = std::min(length, int64_t(std::ceil(reach)) * 2 + 1);
    first_.resize(size_t(size));
    weights_.assign(size_t(taps_ * size), 0.0f);
    std::vector<double> row(static_cast<size_t>(taps_));
    for (int64_t i = 0; i < size; i++) {
      const double centre = (double(i) + 0.5) * step;
      const int64_t from = std::clamp<int64_t>(int64_t(std::floor(centre - reach + 0.5)), 0, length - taps_);
      double sum = 0;
      for (int64_t t = 0; t < taps_; t++) {
        row[size_t(t)] = std::max(0.0, 1 - std::fabs((double(from + t) + 0.5 - centre) / reach));
        sum += row[size_t(t)];
      }
      first_[size_t(i)] = int32_t(from);
      for (int64_t t = 0; t < taps_; t++) weights_[size_t(t * size + i)] = float(row[size_t(t)] / sum);
    }
  }
  operator ResizeTaps() const { return {size_, taps_, first_.data(), weights_.data()}; }

 private:
  int64_t size_, taps_ = 0;
  std::vector<int32_t> first_;
  std::vector<float> weights_;
};

// The box of x, resized to h x w.
void resize(const ImageShape& in, const ImageBox& box, int64_t h, int64_t w, const float* x, float* scratch, float* y) {
  current_kernels().transform_images.resize(in, box, LinearTaps(box.h, h), LinearTaps(box.w, w), x, scratch, y);
}

// values: h, w; w 0: h is that of the shorter side, and the other one keeps the proportions.
class Resize final : public Transform {
 public:
  explicit Resize(const std::vector<double>& v) : h_(int64_t(v[0])), w_(int64_t(v[1])) {}
  ImageShape infer(const ImageShape& in) const override {
    if (in.h < 1 || in.w < 1) fail("Resize", "the images are empty", "at least one pixel", size_of(in));
    if (w_ > 0) return {in.c, h_, w_};
    if (in.h <= in.w) return {in.c, h_, h_ * in.w / in.h};
    return {in.c, h_ * in.h / in.w, h_};
  }
  int64_t scratch(const ImageShape& in) const override { return in.h * infer(in).w; }
  int64_t work() const override { return 20; }
  bool apply(const Numbers&, const ImageShape& in, float* x, float* y, float* scratch) const override {
    const ImageShape out = infer(in);
    if (out.h == in.h && out.w == in.w) return false;
    resize(in, {0, 0, in.h, in.w}, out.h, out.w, x, scratch, y);
    return true;
  }

 private:
  const int64_t h_, w_;
};

// A box whose area is a share of the image's, drawn uniformly, and whose width is to its height as a ratio, drawn
// uniformly in its logarithm: attempt t takes the numbers first + 2 t and first + 2 t + 1. After ten attempts that do
// not fit: none, {0, 0, 0, 0}.
struct BoxRule {
  double scale_low, scale_high, ratio_low, ratio_high;

  ImageBox draw(const Numbers& numbers, int64_t first, int64_t h, int64_t w, bool may_fill) const {
    constexpr int64_t kAttempts = 10;
    const int64_t spare = may_fill ? 0 : 1;
    for (int64_t t = 0; t < kAttempts; t++) {
      const double area = double(h * w) * numbers.between(first + 2 * t, scale_low, scale_high);
      const double ratio = std::exp(numbers.between(first + 2 * t + 1, std::log(ratio_low), std::log(ratio_high)));
      const int64_t box_w = int64_t(std::nearbyint(std::sqrt(area * ratio)));
      const int64_t box_h = int64_t(std::nearbyint(std::sqrt(area / ratio)));
      if (box_h < 1 || box_w < 1 || box_h + spare > h || box_w + spare > w) continue;
      const int64_t place = first + 2 * kAttempts;
      return {numbers.below(place, h - box_h + 1), numbers.below(place + 1, w - box_w + 1), box_h, box_w};
    }
    return {0, 0, 0, 0};
  }
};

// values: h, w, the area's share from, to, the ratio from, to. Numbers 0 to 21: the box. When none fits: the middle of
// the image, with the nearest ratio that is allowed.
class ResizedCrop final : public Transform {
 public:
  explicit ResizedCrop(const std::vector<double>& v)
      : h_(int64_t(v[0])), w_(int64_t(v[1])), rule_{v[2], v[3], v[4], v[5]} {}
  ImageShape infer(const ImageShape& in) const override {
    if (in.h < 1 || in.w < 1) fail("RandomResizedCrop", "the images are empty", "at least one pixel", size_of(in));
    return {in.c, h_, w_};
  }
  int64_t scratch(const ImageShape& in) const override { return in.h * w_; }
  int64_t work() const override { return 20; }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float* scratch) const override {
    ImageBox box = rule_.draw(numbers, 0, in.h, in.w, true);
    if (box.h == 0) box = middle(in);
    resize(in, box, h_, w_, x, scratch, y);
    return true;
  }

 private:
  ImageBox middle(const ImageShape& in) const {
    const double ratio = double(in.w) / double(in.h);
    int64_t h = in.h, w = in.w;
    if (ratio < rule_.ratio_low)
      h = std::clamp<int64_t>(int64_t(std::nearbyint(double(w) / rule_.ratio_low)), 1, in.h);
    else if (ratio > rule_.ratio_high)
      w = std::clamp<int64_t>(int64_t(std::nearbyint(double(h) * rule_.ratio_high)), 1, in.w);
    return {(in.h - h) / 2, (in.w - w) / 2, h, w};
  }

  const int64_t h_, w_;
  const BoxRule rule_;
};

// values: p, the area's share from, to, the ratio from, to, value... Number 0: whether; 1 to 22: the box.
class Erasing final : public Transform {
 public:
  explicit Erasing(const std::vector<double>& v)
      : p_(v[0]), rule_{v[1], v[2], v[3], v[4]}, value_("RandomErasing", "value", v, 5, v.size()) {}
  ImageShape infer(const ImageShape& in) const override {
    value_.expect(in.c);
    return in;
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float*, float*) const override {
    if (!numbers.chance(0, p_)) return false;
    current_kernels().transform_images.fill(in, rule_.draw(numbers, 1, in.h, in.w, false), value_.of(in.c).data(), x);
    return false;
  }
  int64_t work() const override { return 1; }

 private:
  const double p_;
  const BoxRule rule_;
  const PerChannel value_;
};

// values: holes, length, value... Numbers 2 t and 2 t + 1: row and column of the centre of hole t.
class Cutout final : public Transform {
 public:
  explicit Cutout(const std::vector<double>& v)
      : holes_(int64_t(v[0])), length_(int64_t(v[1])), value_("Cutout", "value", v, 2, v.size()) {}
  ImageShape infer(const ImageShape& in) const override {
    value_.expect(in.c);
    return in;
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float*, float*) const override {
    for (int64_t t = 0; t < holes_; t++) {
      const int64_t i = numbers.below(2 * t, in.h) - length_ / 2, j = numbers.below(2 * t + 1, in.w) - length_ / 2;
      const int64_t top = std::max<int64_t>(i, 0), bottom = std::min(i + length_, in.h);
      const int64_t left = std::max<int64_t>(j, 0), right = std::min(j + length_, in.w);
      const ImageBox box{top, left, std::max<int64_t>(bottom - top, 0), std::max<int64_t>(right - left, 0)};
      current_kernels().transform_images.fill(in, box, value_.of(in.c).data(), x);
    }
    return false;
  }
  int64_t work() const override { return 1; }

 private:
  const int64_t holes_, length_;
  const PerChannel value_;
};

}  // namespace

std::unique_ptr<Transform> make_geometry(const TransformStage& stage) {
  const std::vector<double>& v = stage.values;
  if (stage.kind == "crop") return std::make_unique<Crop>(v);
  if (stage.kind == "flip") return std::make_unique<Flip>(v);
  if (stage.kind == "rotation") return std::make_unique<Rotation>(v);
  if (stage.kind == "quarter_turns") return std::make_unique<QuarterTurns>(v);
  if (stage.kind == "resize") return std::make_unique<Resize>(v);
  if (stage.kind == "resized_crop") return std::make_unique<ResizedCrop>(v);
  if (stage.kind == "erasing") return std::make_unique<Erasing>(v);
  if (stage.kind == "cutout") return std::make_unique<Cutout>(v);
  return nullptr;
}

}  // namespace convcore

#include <utility>

#include "ops/kernels.h"
#include "ops/transforms/transform.h"

namespace convcore {
namespace {

// values: p, channels of the result (0: as many as there are). Number 0: whether.
class Grayscale final : public Transform {
 public:
  explicit Grayscale(const std::vector<double>& v) : p_(v[0]), channels_(int64_t(v[1])) {}
  ImageShape infer(const ImageShape& in) const override {
    expect_colour(channels_ > 0 ? "Grayscale" : "RandomGrayscale", in);
    return {channels(in), in.h, in.w};
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float* y, float*) const override {
    if (!numbers.chance(0, p_)) return false;
    current_kernels().transform_images.grayscale(in, channels(in), x, y);
    return true;
  }

 private:
  int64_t channels(const ImageShape& in) const { return channels_ > 0 ? channels_ : in.c; }
  const double p_;
  const int64_t channels_;
};

// values: the ranges of brightness, contrast, saturation (factors) and hue (whole turns). Numbers 0 to 3: these; number
// 4: their order, number k of the permutations of four: of what is left, k mod what is left of it comes next.
class ColorJitter final : public Transform {
 public:
  explicit ColorJitter(const std::vector<double>& v) {
    for (size_t i = 0; i < 4; i++) ranges_[i] = {v[2 * i], v[2 * i + 1]};
  }
  ImageShape infer(const ImageShape& in) const override {
    if (used(kSaturation) || used(kHue)) expect_colour("ColorJitter", in);
    if (in.c != 1 && in.c != 3)
      fail("ColorJitter", "the images have no brightness", "1 channel or 3", std::to_string(in.c));
    return in;
  }
  bool apply(const Numbers& numbers, const ImageShape& in, float* x, float*, float*) const override {
    constexpr int64_t kOrders = 24;
    int left[] = {kBrightness, kContrast, kSaturation, kHue};
    int64_t order = numbers.below(4, kOrders);
    for (int64_t count = 4; count > 0; count--) {
      const int64_t at = order % count;
      order /= count;
      change(left[at], numbers, in, x);
      for (int64_t i = at; i + 1 < count; i++) left[i] = left[i + 1];
    }
    return false;
  }
  int64_t work() const override { return 20; }

 private:
  enum { kBrightness, kContrast, kSaturation, kHue };
  static double neutral(int what) { return what == kHue ? 0 : 1; }
  bool used(int what) const { return ranges_[what] != std::pair(neutral(what), neutral(what)); }
  void change(int what, const Numbers& numbers, const ImageShape& in, float* x) const {
    if (!used(what)) return;
    const float by = float(numbers.between(what, ranges_[what].first, ranges_[what].second));
    const TransformImagesKernels& k = current_kernels().transform_images;
    if (what == kBrightness) return k.brightness(in, by, x);
    if (what == kContrast) return k.contrast(in, by, x);
    if (what == kSaturation) return k.saturation(in, by, x);
    k.hue(in, by, x);
  }

  std::pair<double, double> ranges_[4];
};

// values: the factors of the channels, then what is added; one of each for all, or one per channel.
class Normalize final : public Transform {
 public:
  explicit Normalize(const std::vector<double>& v)
      : scale_("Normalize", "std", v, 0, v.size() / 2), shift_("Normalize", "mean", v, v.size() / 2, v.size()) {}
  ImageShape infer(const ImageShape& in) const override {
    scale_.expect(in.c);
    shift_.expect(in.c);
    return in;
  }
  bool apply(const Numbers&, const ImageShape& in, float* x, float*, float*) const override {
    current_kernels().transform_images.normalize(in, scale_.of(in.c).data(), shift_.of(in.c).data(), x);
    return false;
  }
  int64_t work() const override { return 1; }

 private:
  const PerChannel scale_, shift_;
};

}  // namespace

std::unique_ptr<Transform> make_colour(const TransformStage& stage) {
  const std::vector<double>& v = stage.values;
  if (stage.kind == "grayscale") return std::make_unique<Grayscale>(v);
  if (stage.kind == "jitter") return std::make_unique<ColorJitter>(v);
  if (stage.kind == "normalize") return std::make_unique<Normalize>(v);
  return nullptr;
}

}  // namespace convcore

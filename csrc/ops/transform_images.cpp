#include "ops/transform_images.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "core/threads.h"
#include "ops/kernels.h"
#include "ops/transforms/transform.h"

namespace convcore {
namespace {

constexpr char kOp[] = "transform_images";

// The list of transforms, for images of one shape.
class Pipeline {
 public:
  Pipeline(const std::vector<TransformStage>& stages, RandomKey key, const ImageShape& in)
      : key_(key), largest_(in.count()) {
    ImageShape shape = in;
    for (size_t s = 0; s < stages.size(); s++) {
      if (stages[s].kind == "maybe") {  // values: how many of the next transforms, p. Number 0: whether.
        const size_t end = s + 1 + size_t(stages[s].values[0]);
        groups_.push_back({end, shape});
        steps_.push_back({nullptr, shape, end, stages[s].values[1]});
      } else {
        steps_.push_back({make(stages[s]), shape, 0, 0});
        work_ += steps_.back().transform->work();
        scratch_ = std::max(scratch_, steps_.back().transform->scratch(shape));
        shape = steps_.back().transform->infer(shape);
        largest_ = std::max(largest_, shape.count());
      }
      while (!groups_.empty() && groups_.back().end == s + 1) close_group(shape);
    }
    out_ = shape;
  }

  const ImageShape& out() const { return out_; }
  int64_t work() const { return work_ * largest_; }
  int64_t floats() const { return 2 * largest_ + scratch_; }  // that `run` needs

  // Takes image number `index` at the start of the memory; what becomes of it is elsewhere in the memory.
  float* run(int64_t index, float* memory) const {
    float *x = memory, *y = memory + largest_, *scratch = memory + 2 * largest_;
    for (size_t s = 0; s < steps_.size(); s++) {
      const Step& step = steps_[s];
      const Numbers numbers(substream(key_, uint64_t(index), s));
      if (step.transform == nullptr) {
        if (!numbers.chance(0, step.p)) s = step.end - 1;
      } else if (step.transform->apply(numbers, step.in, x, y, scratch)) {
        std::swap(x, y);
      }
    }
    return x;
  }

 private:
  struct Step {
    std::unique_ptr<Transform> transform;  // null: skip to step `end` with probability 1 - p
    ImageShape in;
    size_t end;
    double p;
  };
  struct Group {
    size_t end;
    ImageShape before;
  };

  static std::unique_ptr<Transform> make(const TransformStage& stage) {
    for (const auto& family : {make_geometry, make_colour, make_filter})
      if (auto transform = family(stage)) return transform;
    fail(kOp, "stages has an unknown kind", "a transform", stage.kind);
  }

  void close_group(const ImageShape& shape) {
    const ImageShape& before = groups_.back().before;
    if (before.c != shape.c || before.h != shape.h || before.w != shape.w)
      fail("RandomApply", "transforms change the shape of the images", to_string({before.c, before.h, before.w}),
           to_string({shape.c, shape.h, shape.w}));
    groups_.pop_back();
  }

  const RandomKey key_;
  ImageShape out_{};
  int64_t largest_, scratch_ = 0, work_ = 2;
  std::vector<Step> steps_;
  std::vector<Group> groups_;  // open ones
};

void check_rows(const char* name, const LabelArray& rows, int64_t count) {
  expect_rank(kOp, name, rows.shape(), 1, "(N,)");
  for (int64_t n = 0; n < rows.size(0); n++)
    if (rows.data()[n] < 0 || rows.data()[n] >= count)
      fail(kOp, std::string(name) + " has a value out of range",
           "0 to " + std::to_string(count - 1) + " (the images of x)", std::to_string(rows.data()[n]));
}

void load(const uint8_t* x, int64_t count, float scale, float* y) {
  current_kernels().transform_images.from_bytes(count, scale, x, y);
}
void load(const float* x, int64_t count, float scale, float* y) {
  current_kernels().transform_images.from_floats(count, scale, x, y);
}
void save(const float* x, int64_t count, uint8_t* y) { current_kernels().transform_images.to_bytes(count, x, y); }
void save(const float* x, int64_t count, float* y) { copy_floats(y, x, count); }

// What is drawn and chosen on the host lies there whatever the device of the images.
TransformParams on_host(const TransformParams& params) {
  TransformParams here = params;
  here.partners = to_device(params.partners, Device::cpu), here.weights = to_device(params.weights, Device::cpu);
  return here;
}

template <typename Out, typename In>
Array<Out> transform(const Array<In>& x, const LabelArray& rows, const TransformParams& given) {
  constexpr int64_t kMostPixels = INT32_MAX;  // of a plane: the kernels index them with 32 bits
  constexpr int kSlot = 0;
  const LabelArray indices = to_device(rows, Device::cpu);
  const TransformParams params = on_host(given);
  const OnDeviceOf on(kOp, {{"x", x}});
  expect_rank(kOp, "x", x.shape(), 4, "(M, C, H, W)");
  checked_count(kOp, "x", x.shape());
  check_rows("indices", indices, x.size(0));
  const ImageShape in{x.size(1), x.size(2), x.size(3)};
  expect_range(kOp, "the number of pixels of an image", in.h * in.w, 0, kMostPixels);
  const bool mixed = params.partners.given();
  if (mixed) {
    check_rows("partners", params.partners, x.size(0));
    expect_shape(kOp, "partners", params.partners.shape(), indices.shape(), "one per image");
    expect_shape(kOp, "weights", params.weights.shape(), indices.shape(), "one per image");
  }
  const Pipeline pipeline(params.stages, params.key, in);
  const ImageShape out = pipeline.out();
  expect_range(kOp, "the number of pixels of an image", out.h * out.w, 0, kMostPixels);
  Array<Out> y = Array<Out>::empty(kOp, "y", {indices.size(0), out.c, out.h, out.w});
  if (out.count() == 0) return y;
  const auto one = [&](int64_t index, float* memory) {
    load(x.data() + index * in.count(), in.count(), params.scale, memory);
    return pipeline.run(index, memory);
  };
  const int64_t floats = (mixed ? 2 : 1) * pipeline.floats();
  const auto some = [&](int64_t begin, int64_t end, float* memory) {
    for (int64_t n = begin; n < end; n++) {
      float* image = one(indices.data()[n], memory);
      if (mixed)
        current_kernels().transform_images.mix(out.count(), params.weights.data()[n],
                                               one(params.partners.data()[n], memory + pipeline.floats()), image);
      save(image, out.count(), y.data() + n * out.count());
    }
  };
  if (x.device() != Device::cpu) {
    some(0, indices.size(0), Tensor::empty(kOp, "an image on its way", {floats}).data());
    return y;
  }
  parallel_for(indices.size(0), pipeline.work() * (mixed ? 2 : 1), [&](int64_t begin, int64_t end) {
    some(begin, end, static_cast<float*>(thread_workspace(kSlot, size_t(floats) * sizeof(float))));
  });
  return y;
}

// ---- mixup --------------------------------------------------------------------------------------------------------

// Numbers of a stream one after the other, for algorithms that draw as many as they happen to need.
class Sequence {
 public:
  explicit Sequence(RandomKey key) : numbers_(key) {}
  int64_t below(int64_t count) { return numbers_.below(next_++, count); }
  double open() { return (double(numbers_.bits(next_++)) + 0.5) / 4294967296.0; }  // in (0, 1)
  double normal() {
    const double length = std::sqrt(-2 * std::log(open()));
    return length * std::cos(6.28318530717958647692 * open());
  }

 private:
  Numbers numbers_;
  int64_t next_ = 0;
};

// The logarithm of a number from the gamma distribution of shape `alpha`, which for small alpha would be zero itself.
// Source: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM Transactions on
// Mathematical Software 26 (2000): for alpha + 1, then times a uniform number to the power 1 / alpha.
double log_gamma_variate(double alpha, Sequence& numbers) {
  const double d = alpha + 1 - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double z = numbers.normal(), u = numbers.open();
    const double v = (1 + c * z) * (1 + c * z) * (1 + c * z);
    if (v > 0 && std::log(u) < 0.5 * z * z + d - d * v + d * std::log(v))
      return std::log(d * v) + std::log(numbers.open()) / alpha;
  }
}

}  // namespace

template <typename T>
Tensor transform_images(const Array<T>& x, const LabelArray& indices, const TransformParams& params) {
  return transform<float>(x, indices, params);
}
template <typename T>
Array<uint8_t> transform_images_to_bytes(const Array<T>& x, const LabelArray& indices, const TransformParams& params) {
  return transform<uint8_t>(x, indices, params);
}
template Tensor transform_images(const Array<uint8_t>&, const LabelArray&, const TransformParams&);
template Tensor transform_images(const Array<float>&, const LabelArray&, const TransformParams&);
template Array<uint8_t> transform_images_to_bytes(const Array<uint8_t>&, const LabelArray&, const TransformParams&);
template Array<uint8_t> transform_images_to_bytes(const Array<float>&, const LabelArray&, const TransformParams&);

Mixup mixup_pairs(const LabelArray& indices, int64_t count, double alpha, RandomKey key, int64_t use) {
  const char* op = "mixup_pairs";
  expect_rank(op, "indices", indices.shape(), 1, "(N,)");
  expect_range(op, "count", count, indices.size(0) > 0, int64_t(1) << 32);
  expect_range(op, "use", use, 0, UINT16_MAX);
  if (!(alpha > 0)) fail(op, "alpha is out of range", "more than 0", std::to_string(alpha));
  Mixup pairs{LabelArray::empty(op, "partners", indices.shape()), Tensor::empty(op, "weights", indices.shape())};
  for (int64_t n = 0; n < indices.size(0); n++) {
    Sequence numbers(substream(key, uint64_t(indices.data()[n]), uint64_t(use)));
    pairs.partners.data()[n] = numbers.below(count);
    const double a = log_gamma_variate(alpha, numbers), b = log_gamma_variate(alpha, numbers);
    pairs.weights.data()[n] = float(1 / (1 + std::exp(b - a)));
  }
  return pairs;
}

}  // namespace convcore

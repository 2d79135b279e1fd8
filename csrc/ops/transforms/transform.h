// What transform_images applies to an image: one class for each kind of transform.
#pragma once
#include <memory>

#include "ops/transform_images.h"

namespace convcore {

// The random numbers of one transform for one image. Number i is a function of the stream and i, so a transform may
// leave numbers out without a change of the others.
class Numbers {
 public:
  explicit Numbers(RandomKey key) : key_(key) {}
  RandomKey key() const { return key_; }
  uint32_t bits(int64_t i) const { return philox(key_, uint64_t(i / 4)).value[i % 4]; }
  double uniform(int64_t i) const { return double(bits(i)) / 4294967296.0; }  // in [0, 1)
  double between(int64_t i, double low, double high) const { return low + (high - low) * uniform(i); }
  int64_t below(int64_t i, int64_t count) const { return int64_t(bits(i) * uint64_t(count) >> 32); }  // count <= 2^32
  bool chance(int64_t i, double p) const { return uniform(i) >= 1 - p; }

 private:
  RandomKey key_;
};

class Transform {
 public:
  virtual ~Transform() = default;
  // The shape of what becomes of an image of shape `in`; throws where the transform cannot be applied.
  virtual ImageShape infer(const ImageShape& in) const { return in; }
  virtual int64_t scratch(const ImageShape&) const { return 0; }  // floats
  virtual int64_t work() const { return 4; }                      // elementary operations per value, roughly
  // True: the result is in y. False: it is in x, which may have been changed.
  virtual bool apply(const Numbers&, const ImageShape& in, float* x, float* y, float* scratch) const = 0;
};

// Null for a kind that the file does not have.
std::unique_ptr<Transform> make_geometry(const TransformStage&);
std::unique_ptr<Transform> make_colour(const TransformStage&);
std::unique_ptr<Transform> make_filter(const TransformStage&);

// One number for all channels, or one for each.
class PerChannel {
 public:
  PerChannel(const char* owner, const char* name, const std::vector<double>& values, size_t begin, size_t end)
      : owner_(owner), name_(name), values_(values.begin() + long(begin), values.begin() + long(end)) {}
  // Keeps the numbers for images of `channels`; throws when there are others.
  void expect(int64_t channels) const {
    if (values_.size() != 1 && int64_t(values_.size()) != channels)
      fail(owner_, std::string(name_) + " has the wrong length",
           "a number or " + std::to_string(channels) + " (the channels)", std::to_string(values_.size()));
  }
  std::vector<float> of(int64_t channels) const {
    std::vector<float> numbers(static_cast<size_t>(channels));
    for (size_t c = 0; c < numbers.size(); c++) numbers[c] = values_[values_.size() == 1 ? 0 : c];
    return numbers;
  }

 private:
  const char *owner_, *name_;
  std::vector<float> values_;
};

inline std::string size_of(const ImageShape& s) { return std::to_string(s.h) + " x " + std::to_string(s.w); }

// Throws unless the images have red, green and blue.
inline void expect_colour(const char* owner, const ImageShape& in) {
  if (in.c != 3) fail(owner, "the images have no colour", "3 channels (red, green, blue)", std::to_string(in.c));
}

}  // namespace convcore

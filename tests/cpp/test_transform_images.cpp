// transform_images: every transform on images of every width, for the sanitizers; what they compute is tested in
// Python.
#include "ops/transform_images.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::random_tensor;

LabelArray rows(const std::vector<int64_t>& values) {
  LabelArray t = LabelArray::empty("test", "indices", {int64_t(values.size())});
  std::copy(values.begin(), values.end(), t.data());
  return t;
}

const std::vector<TransformStage> kAny = {
    {"crop", {3, 2, 1, 2, 3, 1, 1, 0.5}},
    {"crop", {0, 0, 4, 4, 4, 4, 1, 0}},
    {"crop", {1, 1, 0, 0, 0, 0, 0, 0}},
    {"flip", {1, 1}},
    {"flip", {0, 1}},
    {"rotation", {-180, 180, 0.25}},
    {"quarter_turns", {0, 2}},
    {"quarter_turns", {1, 3}},
    {"resize", {5, 19}},
    {"resize", {4, 0}},
    {"resized_crop", {7, 3, 0.08, 1, 0.75, 1.33}},
    {"erasing", {1, 0.1, 0.5, 0.3, 3.3, 0.5}},
    {"cutout", {2, 5, 0.5}},
    {"normalize", {2, -1}},
    {"noise", {0, 0.5, 1}},
    {"sobel", {}},
};
const std::vector<TransformStage> kColour = {
    {"grayscale", {1, 1}},
    {"grayscale", {0.5, 0}},
    {"jitter", {0.5, 1.5, 0.5, 1.5, 0.5, 1.5, -0.5, 0.5}},
    {"blur", {5, 3, 0.3, 2}},
};

// Runs the transforms on images (C, 4, w) at three seeds, as floats and as bytes; all results are numbers.
void walk(const std::vector<TransformStage>& stages, int64_t channels, int64_t w) {
  const Tensor x = random_tensor({3, channels, 4, w}, 1);
  for (int64_t i = 0; i < x.count(); i++) x.data()[i] = std::fabs(x.data()[i]);
  for (uint64_t seed = 0; seed < 3; seed++) {
    TransformParams params;
    params.stages = stages;
    params.key = {seed, 0};
    params.partners = rows({1, 0, 0, 2});
    params.weights = test::tensor({4}, {0.f, 0.25f, 0.5f, 1.f});
    const Tensor y = transform_images(x, rows({2, 0, 2, 1}), params);
    int64_t wrong = 0;
    for (int64_t i = 0; i < y.count(); i++) wrong += !(std::fabs(y.data()[i]) < 10);
    CHECK(wrong == 0);
    const Array<uint8_t> bytes = transform_images_to_bytes(x, rows({2, 0, 2, 1}), params);
    for (int64_t i = 0; i < y.count(); i++) {
      const double want = std::clamp(double(y.data()[i]) * 255, 0.0, 255.0);
      wrong += !(std::fabs(want - double(bytes.data()[i])) <= 0.5 + 1e-4);
    }
    CHECK(wrong == 0);
    const Tensor again = transform_images(bytes, rows({0, 3}), params = {});
    CHECK(again.count() == y.count() / 2);
  }
}

TEST_CASE("transforms read and write what they may at every width") {
  for (int64_t w : test::kCounts) {
    if (w == 0) continue;
    CAPTURE(w);
    for (const TransformStage& stage : kAny) {
      CAPTURE(stage.kind);
      for (int64_t channels : {1, 3}) walk({stage}, channels, w);
    }
    if (w < 2) continue;  // the blur mirrors one column
    for (const TransformStage& stage : kColour) {
      CAPTURE(stage.kind);
      walk({stage}, 3, w);
    }
  }
}

TEST_CASE("a group of transforms is left out as a whole") {
  const Tensor x = random_tensor({1, 1, 4, 4}, 2);
  TransformParams params;
  params.stages = {{"maybe", {2, 0}}, {"normalize", {2, 0}}, {"normalize", {3, 0}}, {"normalize", {1, 5}}};
  const Tensor y = transform_images(x, rows({0}), params);
  for (int64_t i = 0; i < 16; i++) CHECK(y.data()[i] == x.data()[i] + 5);
  params.stages[0].values[1] = 1;
  const Tensor all = transform_images(x, rows({0}), params);
  for (int64_t i = 0; i < 16; i++) CHECK(std::fabs(all.data()[i] - (x.data()[i] * 6 + 5)) < 1e-5);
}

TEST_CASE("transform_images refuses indices that are no images, and images of too many dimensions") {
  const Tensor x = random_tensor({2, 1, 3, 3}, 1);
  CHECK(test::message_of([&] { transform_images(x, rows({2}), {}); }) ==
        "transform_images: indices has a value out of range: expected 0 to 1 (the images of x), got 2");
  CHECK(test::message_of([&] {
          transform_images(random_tensor({2, 3}, 1), rows({0}), {});
        }).find("expected 4 (M, C, H, W)") != std::string::npos);
}

}  // namespace
}  // namespace convcore

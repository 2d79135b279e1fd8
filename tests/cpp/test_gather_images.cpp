// gather_images: against the naive loops of its contract, in every order, type and width, for the sanitizers.
#include "ops/gather_images.h"

#include "cpu/kernels.h"
#include "helpers.h"

namespace convcore {
namespace {

using test::random_tensor;

template <typename T>
Array<T> data_set(const Shape& shape) {
  const Tensor values = random_tensor(shape, 1);
  Array<T> x = Array<T>::empty("test", "x", shape);
  for (int64_t i = 0; i < x.count(); i++) x.data()[i] = T(128 + 127 * values.data()[i]);
  return x;
}

LabelArray labels(const std::vector<int64_t>& values) {
  LabelArray t = LabelArray::empty("test", "indices", {int64_t(values.size())});
  std::copy(values.begin(), values.end(), t.data());
  return t;
}

template <typename T>
void check_against_loops(const Shape& shape, const GatherImagesParams& p) {
  CAPTURE(to_string(shape));
  CAPTURE(p.pad);
  CAPTURE(p.flip);
  const Array<T> x = data_set<T>(shape);
  const LabelArray indices = labels({2, 0, 2, 1});
  const Tensor y = reorder("test", gather_images(x, indices, p), Layout::row_major);
  const int64_t c_in = shape[1], h = shape[2], w = shape[3];
  const float* got = y.data();
  int64_t wrong = 0;
  for (int64_t n = 0; n < 4; n++) {
    const uint64_t index = uint64_t(indices.data()[n]);
    const Philox random = philox(substream(p.key, index, 0), 0);
    const int64_t down = int64_t(random.value[0] * uint64_t(2 * p.pad + 1) >> 32) - p.pad;
    const int64_t right = int64_t(random.value[1] * uint64_t(2 * p.pad + 1) >> 32) - p.pad;
    const bool flip = p.flip && philox(substream(p.key, index, p.pad > 0), 0).value[0] >> 31;
    for (int64_t c = 0; c < c_in; c++)
      for (int64_t i = 0; i < h; i++)
        for (int64_t j = 0; j < w; j++) {
          const int64_t row = i + down, column = (flip ? w - 1 - j : j) + right;
          const bool inside = row >= 0 && row < h && column >= 0 && column < w;
          const int64_t at = ((indices.data()[n] * c_in + c) * h + row) * w + column;
          const double pixel = inside ? double(x.data()[at]) : 0.0;
          const double want = p.scale == nullptr ? pixel : pixel * p.scale[c] + p.shift[c];
          wrong += !(std::fabs(*got++ - want) <= 1e-4);
        }
  }
  CHECK(wrong == 0);
}

TEST_CASE("gather_images matches the naive loops") {
  const float scale[] = {0.5f, -0.25f, 0.125f}, shift[] = {1.0f, 0.0f, -2.0f};
  for (int64_t w : test::kCounts)
    for (int64_t pad : {0, 1, 4, 90})
      for (bool flip : {false, true})
        for (Layout layout : {Layout::row_major, Layout::channels_last})
          for (bool scaled : {false, true}) {
            GatherImagesParams p;
            p.pad = pad;
            p.flip = flip;
            p.key = {7, uint64_t(w)};
            p.layout = layout;
            if (scaled) p.scale = scale, p.shift = shift;
            check_against_loops<uint8_t>({3, 3, 3, w}, p);
            check_against_loops<float>({3, 3, 2, w}, p);
            check_against_loops<uint8_t>({3, 1, 2, w}, p);
          }
}

TEST_CASE("gather_images by blocks gives the same bits as at once") {
  const Array<uint8_t> x = data_set<uint8_t>({9, 3, 8, 8});
  const LabelArray indices = labels({8, 1, 5, 0, 3});
  GatherImagesParams p;
  p.pad = 2;
  p.flip = true;
  const Tensor whole = gather_images(x, indices, p);
  Tensor parts = Tensor::empty("test", "y", whole.shape());
  const auto block = cpu::kernels().gather_images.from_uint8;
  block({3, 8, 8}, p, &p.key, x.data(), indices.data(), 2, 5, parts.data());
  block({3, 8, 8}, p, &p.key, x.data(), indices.data(), 0, 2, parts.data());
  CHECK(std::memcmp(whole.data(), parts.data(), size_t(whole.count()) * sizeof(float)) == 0);

  GatherImagesParams plain;
  const Tensor first = gather_images(x, labels({0, 1}), plain);
  block({3, 8, 8}, plain, &plain.key, x.data(), nullptr, 0, 2, parts.data());
  CHECK(std::memcmp(first.data(), parts.data(), size_t(first.count()) * sizeof(float)) == 0);
}

TEST_CASE("gather_images refuses an index that is no image") {
  const Array<uint8_t> x = data_set<uint8_t>({2, 1, 3, 3});
  CHECK(test::message_of([&] { gather_images(x, labels({2}), {}); }) ==
        "gather_images: indices has a value out of range: expected 0 to 1 (the images of x), got 2");
}

}  // namespace
}  // namespace convcore

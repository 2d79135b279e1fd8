#include "ops/gather_images.h"

#include <type_traits>

#include "core/threads.h"
#include "ops/kernels.h"

namespace convcore {
namespace {

constexpr char kOp[] = "gather_images";
constexpr int64_t kWork = 2;  // elementary operations per pixel

void check(const Shape& x, const LabelArray& given, const GatherImagesParams& params) {
  const LabelArray indices = to_device(given, Device::cpu);
  constexpr int64_t kMaxPad = 1 << 30;  // 2 pad + 1 places are drawn with 32 bits
  expect_rank(kOp, "x", x, 4, "(M, C, H, W)");
  checked_count(kOp, "x", x);
  expect_rank(kOp, "indices", indices.shape(), 1, "(N,)");
  expect_range(kOp, "pad", params.pad, 0, kMaxPad);
  for (int64_t n = 0; n < indices.size(0); n++)
    if (indices.data()[n] < 0 || indices.data()[n] >= x[0])
      fail(kOp, "indices has a value out of range", "0 to " + std::to_string(x[0] - 1) + " (the images of x)",
           std::to_string(indices.data()[n]));
}

}  // namespace

template <typename T>
Tensor gather_images(const Array<T>& x, const LabelArray& indices, const GatherImagesParams& params) {
  check(x.shape(), indices, params);
  const OnDeviceOf on(kOp, {{"x", x}});
  const GatherImagesShape s{x.size(1), x.size(2), x.size(3)};
  Tensor y = Tensor::empty(kOp, "y", {indices.size(0), s.c, s.h, s.w}, params.layout);
  GatherImagesBlock<T> block;
  if constexpr (std::is_same_v<T, uint8_t>)
    block = current_kernels().gather_images.from_uint8;
  else
    block = current_kernels().gather_images.from_float;
  const LabelArray rows = to_device(indices, x.device());
  const Handed<RandomKey> key(params.key);
  parallel_for(indices.size(0), kWork * s.c * s.h * s.w, [&](int64_t begin, int64_t end) {
    block(s, params, key.get(), x.data(), rows.data(), begin, end, y.data());
  });
  return y;
}

template Tensor gather_images(const Array<uint8_t>&, const LabelArray&, const GatherImagesParams&);
template Tensor gather_images(const Array<float>&, const LabelArray&, const GatherImagesParams&);

}  // namespace convcore

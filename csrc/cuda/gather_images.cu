// gather_images: a block takes pixels of one image of the batch, a thread all channels of a pixel. The data set lies on
// the device.
//
// Grid: x over images, y over pieces of the pixels. Bytes: each pixel of the batch once, read plane by plane. The
// random numbers of an image, four Philox blocks of some hundred instructions each, are made once per thread, for all
// of its pixels: made for each element they would cost more than everything else.
#include "ops/gather_images.h"

#include "cuda/images.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPixelsOfThread = 2, kMostPieces = 65535;

// How an image is moved.
struct Place {
  int64_t down, right;
  bool mirrored;
};
CONVCORE_DEVICE Place place_of(const GatherImagesParams& p, const RandomKey* key, int64_t index) {
  Place place{0, 0, false};
  uint64_t use = 0;  // the crop is the first use of random numbers, if there is one, and the mirroring the next
  if (p.pad > 0) {
    const Philox random = philox_at(substream_of(*key, uint64_t(index), use++), 0);
    const auto places = uint32_t(2 * p.pad + 1);
    place.down = int64_t(__umulhi(random.value[0], places)) - p.pad;
    place.right = int64_t(__umulhi(random.value[1], places)) - p.pad;
  }
  place.mirrored = p.flip && philox_at(substream_of(*key, uint64_t(index), use), 0).value[0] >> 31;
  return place;
}

template <typename T>
CONVCORE_KERNEL(kThreads)
gather_pixels(GatherImagesShape s, Divisor by_w, GatherImagesParams p, const RandomKey* key, const T* x,
              const int64_t* indices, int64_t n0, float* y) {
  const int64_t plane = s.h * s.w, n = n0 + int64_t(blockIdx.x), index = indices ? indices[n] : n;
  const Place place = place_of(p, key, index);
  const bool last = p.layout == Layout::channels_last;
  const int64_t step = last ? 1 : plane;  // from channel to channel
  for (int64_t pixel = int64_t(blockIdx.y) * kThreads + threadIdx.x; pixel < plane;
       pixel += int64_t(gridDim.y) * kThreads) {
    int64_t w;
    const int64_t h = by_w.divide(pixel, &w) + place.down;
    w = (place.mirrored ? s.w - 1 - w : w) + place.right;
    const bool inside = h >= 0 && h < s.h && w >= 0 && w < s.w;
    const T* from = x + index * s.c * plane + h * s.w + w;
    float* to = y + n * s.c * plane + (last ? pixel * s.c : pixel);
    for (int64_t c = 0; c < s.c; c++) {
      const float value = inside ? float(from[c * plane]) : 0.0f;
      to[c * step] = p.scale ? fmaf(value, p.scale[c], p.shift[c]) : value;
    }
  }
}

template <typename T>
void gather(const GatherImagesShape& s, const GatherImagesParams& params, const RandomKey* key, const T* x,
            const int64_t* indices, int64_t n0, int64_t n1, float* y) {
  if ((n1 - n0) * s.c * s.h * s.w == 0) return;
  const int64_t pieces = (s.h * s.w + kThreads * kPixelsOfThread - 1) / (kThreads * kPixelsOfThread);
  launch("gather_images", gather_pixels<T>,
         dim3(unsigned(n1 - n0), unsigned(pieces < kMostPieces ? pieces : kMostPieces)), kThreads, 0, s, Divisor(s.w),
         params, key, x, indices, n0, y);
}

}  // namespace

GatherImagesKernels gather_images_kernels() { return {gather<uint8_t>, gather<float>}; }

}  // namespace convcore::cuda

// gather_images: one thread per element of the batch, in the order of its memory. The data set lies on the device.
// Bytes: each pixel of the batch once.
#include "ops/gather_images.h"

#include "cuda/elementwise.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

template <typename T>
struct Gather {
  GatherImagesShape s;
  GatherImagesParams p;  // scale and shift point to the device
  const RandomKey* key;
  const T* x;
  const int64_t* indices;  // null: the first images
  int64_t n0;
  float* y;
  __device__ void operator()(int64_t at) const {
    const int64_t plane = s.h * s.w, n = n0 + at / (s.c * plane), in_image = at % (s.c * plane);
    const bool last = p.layout == Layout::channels_last;
    const int64_t c = last ? in_image % s.c : in_image / plane;
    const int64_t pixel = last ? in_image / s.c : in_image % plane;
    const int64_t index = indices ? indices[n] : n;
    int64_t h = pixel / s.w, w = pixel % s.w;
    uint64_t use = 0;  // the crop is the first use of random numbers, if there is one, and the mirroring the next
    int64_t down = 0, right = 0;
    if (p.pad > 0) {
      const Philox random = philox_at(substream_of(*key, uint64_t(index), use++), 0);
      const auto places = uint32_t(2 * p.pad + 1);
      down = int64_t(__umulhi(random.value[0], places)) - p.pad;
      right = int64_t(__umulhi(random.value[1], places)) - p.pad;
    }
    if (p.flip && philox_at(substream_of(*key, uint64_t(index), use), 0).value[0] >> 31) w = s.w - 1 - w;
    h += down, w += right;
    const bool inside = h >= 0 && h < s.h && w >= 0 && w < s.w;
    const float value = inside ? float(x[(index * s.c + c) * plane + h * s.w + w]) : 0.0f;
    y[n0 * s.c * plane + at] = p.scale ? fmaf(value, p.scale[c], p.shift[c]) : value;
  }
};

template <typename T>
void gather(const GatherImagesShape& s, const GatherImagesParams& params, const RandomKey* key, const T* x,
            const int64_t* indices, int64_t n0, int64_t n1, float* y) {
  for_positions("gather_images", (n1 - n0) * s.c * s.h * s.w, Gather<T>{s, params, key, x, indices, n0, y});
}

}  // namespace

GatherImagesKernels gather_images_kernels() { return {gather<uint8_t>, gather<float>}; }

}  // namespace convcore::cuda

// transform_images: the way in and out, and the table. The transforms are in cpu/transforms.
#include "ops/transform_images.h"

#include "cpu/elementwise.h"
#include "cpu/transforms/kernels.h"

namespace convcore::cpu::CONVCORE_ISA {

static void from_bytes(int64_t count, float scale, const uint8_t* x, float* y) {
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) store(y + i, load_bytes(x + i) * splat(scale));
  if (whole == count) return;
  uint8_t few[kLanes] = {};
  for (int64_t i = whole; i < count; i++) few[i - whole] = x[i];
  store_partial(y + whole, load_bytes(few) * splat(scale), count - whole);
}

static void from_floats(int64_t count, float scale, const float* x, float* y) {
  for_each_vector(
      count, [&](int64_t i, int64_t lanes) { store_lanes(y + i, load_lanes(x + i, lanes) * splat(scale), lanes); });
}

static void to_bytes(int64_t count, const float* x, uint8_t* y) {
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    const Vec v = load_lanes(x + i, lanes) * 255.0f;
    if (lanes == kLanes) return store_bytes(y + i, v);
    uint8_t few[kLanes];
    store_bytes(few, v);
    for (int64_t l = 0; l < lanes; l++) y[i + l] = few[l];
  });
}

static void mix(int64_t count, float weight, const float* other, float* x) {
  const Vec own = splat(weight), rest = splat(1.0f - weight);
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    store_lanes(x + i, load_lanes(x + i, lanes) * own + load_lanes(other + i, lanes) * rest, lanes);
  });
}

TransformImagesKernels transform_images_kernels();
TransformImagesKernels transform_images_kernels() {
  TransformImagesKernels k{};
  k.from_bytes = from_bytes;
  k.from_floats = from_floats;
  k.to_bytes = to_bytes;
  k.mix = mix;
  k.crop = image_crop;
  k.flip = image_flip;
  k.quarter_turns = image_quarter_turns;
  k.rotate = image_rotate;
  k.resize = image_resize;
  k.fill = image_fill;
  k.brightness = image_brightness;
  k.contrast = image_contrast;
  k.saturation = image_saturation;
  k.hue = image_hue;
  k.grayscale = image_grayscale;
  k.normalize = image_normalize;
  k.noise = image_noise;
  k.blur = image_blur;
  k.sobel = image_sobel;
  return k;
}

}  // namespace convcore::cpu::CONVCORE_ISA

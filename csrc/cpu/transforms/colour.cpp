// Colour, as torchvision defines it: brightness, contrast and saturation blend with black, with the mean grey and with
// the grey picture; hue turns the colour circle.
#include "cpu/elementwise.h"
#include "cpu/transforms/kernels.h"

namespace convcore::cpu::CONVCORE_ISA {

// Of ITU-R 601, as torchvision rounds them.
constexpr float kRed = 0.2989f, kGreen = 0.587f, kBlue = 0.114f;

CONVCORE_INLINE Vec grey(Vec red, Vec green, Vec blue) { return red * kRed + green * kGreen + blue * kBlue; }

CONVCORE_INLINE Vec clip(Vec v) {
  v = select(v < Vec{}, Vec{}, v);
  return select(v > splat(1.0f), splat(1.0f), v);
}

// x = clip(factor * x + rest)
static void blend(int64_t count, float factor, float rest, float* x) {
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    store_lanes(x + i, clip(load_lanes(x + i, lanes) * splat(factor) + splat(rest)), lanes);
  });
}

void image_brightness(const ImageShape& s, float factor, float* x) { blend(s.count(), factor, 0.0f, x); }

void image_contrast(const ImageShape& s, float factor, float* x) {
  const int64_t pixels = s.h * s.w;
  double total = 0;
  for (int64_t c = 0; c < s.c; c++) {
    Vec lanes_sum{};
    for_each_vector(pixels, [&](int64_t i, int64_t lanes) { lanes_sum += load_lanes(x + c * pixels + i, lanes); });
    const float weights[] = {kRed, kGreen, kBlue};
    total += double(sum(lanes_sum)) * double(s.c == 3 ? weights[c] : 1.0f / float(s.c));
  }
  const double mean = total / double(pixels);
  blend(s.count(), factor, float((1.0 - double(factor)) * mean), x);
}

void image_saturation(const ImageShape& s, float factor, float* x) {
  const int64_t pixels = s.h * s.w;
  const Vec own = splat(factor), rest = splat(1.0f - factor);
  for_each_vector(pixels, [&](int64_t i, int64_t lanes) {
    Vec v[3];
    for (int c = 0; c < 3; c++) v[c] = load_lanes(x + c * pixels + i, lanes);
    const Vec g = grey(v[0], v[1], v[2]) * rest;
    for (int c = 0; c < 3; c++) store_lanes(x + c * pixels + i, clip(v[c] * own + g), lanes);
  });
}

CONVCORE_INLINE Vec into_circle(Vec sixths) { return sixths - floor(sixths * (1.0f / 6.0f)) * 6.0f; }

// Red, green or blue of a colour: value - chroma * max(0, min(k, 4 - k, 1)) with k = n + hue, in sixths of the circle.
CONVCORE_INLINE Vec primary(float n, Vec hue, Vec value, Vec chroma) {
  const Vec k = into_circle(hue + n), other = splat(4.0f) - k;
  return value - chroma * clip(select(k < other, k, other));
}

void image_hue(const ImageShape& s, float turn, float* x) {
  const int64_t pixels = s.h * s.w;
  float *red = x, *green = x + pixels, *blue = x + 2 * pixels;
  for_each_vector(pixels, [&](int64_t i, int64_t lanes) {
    const Vec r = load_lanes(red + i, lanes), g = load_lanes(green + i, lanes), b = load_lanes(blue + i, lanes);
    const Vec high = larger(r, larger(g, b)), low = -larger(-r, larger(-g, -b)), chroma = high - low;
    const Vec inverse = splat(1.0f) / select(chroma > Vec{}, chroma, splat(1.0f));
    Vec hue = select(high == g, (b - r) * inverse + 2.0f, (r - g) * inverse + 4.0f);
    hue = select(high == r, (g - b) * inverse, hue) + splat(6.0f * turn);
    store_lanes(red + i, primary(5.0f, hue, high, chroma), lanes);
    store_lanes(green + i, primary(3.0f, hue, high, chroma), lanes);
    store_lanes(blue + i, primary(1.0f, hue, high, chroma), lanes);
  });
}

void image_grayscale(const ImageShape& s, int64_t channels_out, const float* x, float* y) {
  const int64_t pixels = s.h * s.w;
  for_each_vector(pixels, [&](int64_t i, int64_t lanes) {
    const Vec g =
        grey(load_lanes(x + i, lanes), load_lanes(x + pixels + i, lanes), load_lanes(x + 2 * pixels + i, lanes));
    for (int64_t c = 0; c < channels_out; c++) store_lanes(y + c * pixels + i, g, lanes);
  });
}

void image_normalize(const ImageShape& s, const float* scale, const float* shift, float* x) {
  const int64_t pixels = s.h * s.w;
  for (int64_t c = 0; c < s.c; c++) {
    const Vec by = splat(scale[c]), plus = splat(shift[c]);
    float* plane = x + c * pixels;
    for_each_vector(pixels, [&](int64_t i, int64_t lanes) {
      store_lanes(plane + i, load_lanes(plane + i, lanes) * by + plus, lanes);
    });
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

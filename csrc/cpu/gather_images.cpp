// gather_images: line by line, a vector of pixels at a time. A line of the result is zeros, pixels of one line of x in
// order or mirrored, zeros. Channels-last results go through a short buffer, so that there is one arithmetic.
#include "ops/gather_images.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int64_t kColumns = 256;  // of a line at a time: what the buffer holds

CONVCORE_INLINE Vec load_pixels(const float* p) { return load(p); }
CONVCORE_INLINE Vec load_pixels(const uint8_t* p) { return load_bytes(p); }

// Pixel (i, j) of the result is pixel (i + down, j' + right) of the image.
struct Crop {
  int64_t down, right;
  bool flip;
};

// The crop is the first use of random numbers, if there is one, and the mirroring the next.
static inline Crop crop_of(const GatherImagesParams& p, int64_t index) {
  Crop crop{0, 0, false};
  uint64_t use = 0;
  if (p.pad > 0) {
    const Philox random = philox(substream(p.key, uint64_t(index), use++), 0);
    const uint64_t places = uint64_t(2 * p.pad + 1);
    crop.down = int64_t(random.value[0] * places >> 32) - p.pad;
    crop.right = int64_t(random.value[1] * places >> 32) - p.pad;
  }
  if (p.flip) crop.flip = philox(substream(p.key, uint64_t(index), use), 0).value[0] >> 31;
  return crop;
}

struct Affine {
  float scale, shift;
};

// Adding -0 changes no number, not even -0.
static inline Affine affine_of(const GatherImagesParams& p, int64_t c) {
  return p.scale == nullptr ? Affine{1.0f, -0.0f} : Affine{p.scale[c], p.shift[c]};
}

static void fill(float* y, int64_t count, float value) {
  for (int64_t j = 0; j < count; j++) y[j] = value;
}

// x[0], x[1], ... or, flipped, x[0], x[-1], ...; all kLanes of them may be read.
template <bool flip, typename T>
CONVCORE_INLINE Vec take(const T* x) {
  return flip ? reversed(load_pixels(x - (kLanes - 1))) : load_pixels(x);
}

// y[j] = scale * x[j] + shift for j < count, or with x[-j].
template <bool flip, typename T>
static inline void pixels(const T* x, int64_t count, Vec scale, Vec shift, float* y) {
  constexpr int64_t step = flip ? -1 : 1;
  if (count < kLanes) {
    T few[kLanes] = {};
    for (int64_t j = 0; j < count; j++) few[j] = x[step * j];
    return store_partial(y, load_pixels(few) * scale + shift, count);
  }
  for (int64_t j = 0; j < count; j += kLanes) {
    const int64_t at = min_of(j, count - kLanes);  // the last vector ends with the line: some pixels are made twice
    store(y + at, take<flip>(x + step * at) * scale + shift);
  }
}

// Columns j0 to j1 - 1 of a line of the result; x is the line of the image, of w pixels, or null when there is none.
template <typename T>
static void line(const T* x, int64_t w, const Crop& crop, Affine a, int64_t j0, int64_t j1, float* y) {
  const float border = a.shift + 0.0f;
  if (x == nullptr) return fill(y, j1 - j0, border);
  const int64_t lead = crop.flip ? crop.right : -crop.right;  // the columns from here on, w of them, come from x
  const int64_t begin = min_of(max_of(lead, j0), j1), end = max_of(min_of(lead + w, j1), begin);
  fill(y, begin - j0, border);
  if (crop.flip)
    pixels<true>(x + (w - 1 + lead - begin), end - begin, splat(a.scale), splat(a.shift), y + (begin - j0));
  else
    pixels<false>(x + (begin - lead), end - begin, splat(a.scale), splat(a.shift), y + (begin - j0));
  fill(y + (end - j0), j1 - end, border);
}

template <typename T>
static void image(const GatherImagesShape& s, const GatherImagesParams& p, const Crop& crop, const T* x, float* y) {
  const bool last = p.layout == Layout::channels_last;
  float buffer[kColumns];
  for (int64_t c = 0; c < s.c; c++) {
    const Affine a = affine_of(p, c);
    for (int64_t i = 0; i < s.h; i++) {
      const int64_t row = i + crop.down;
      const T* from = row < 0 || row >= s.h ? nullptr : x + (c * s.h + row) * s.w;
      for (int64_t j0 = 0; j0 < s.w; j0 += kColumns) {
        const int64_t j1 = min_of(j0 + kColumns, s.w);
        if (!last) {
          line(from, s.w, crop, a, j0, j1, y + (c * s.h + i) * s.w + j0);
          continue;
        }
        line(from, s.w, crop, a, j0, j1, buffer);
        for (int64_t j = j0; j < j1; j++) y[(i * s.w + j) * s.c + c] = buffer[j - j0];
      }
    }
  }
}

template <typename T>
static void block(const GatherImagesShape& shape, const GatherImagesParams& p, const RandomKey* key, const T* x,
                  const int64_t* indices, int64_t n0, int64_t n1, float* y) {
  const int64_t pixels = shape.c * shape.h * shape.w;
  const bool whole = p.pad == 0 && !p.flip && (p.layout == Layout::row_major || shape.c == 1);
  // An image that stays in order is one line per channel; without a scale, of floats, it is one copy.
  const GatherImagesShape s = whole ? GatherImagesShape{shape.c, 1, shape.h * shape.w} : shape;
  GatherImagesParams params = p;
  params.key = *key;
  if (whole) params.layout = Layout::row_major;
  for (int64_t n = n0; n < n1; n++) {
    const int64_t index = indices == nullptr ? n : indices[n];
    if constexpr (sizeof(T) == sizeof(float))
      if (whole && p.scale == nullptr) {
        memcpy(y + n * pixels, x + index * pixels, size_t(pixels) * sizeof(float));
        continue;
      }
    image(s, params, crop_of(params, index), x + index * pixels, y + n * pixels);
  }
}

GatherImagesKernels gather_images_kernels();
GatherImagesKernels gather_images_kernels() { return {block<uint8_t>, block<float>}; }

}  // namespace convcore::cpu::CONVCORE_ISA

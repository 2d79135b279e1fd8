// transform_images: each transform on one image (C, H, W), one thread per pixel or value. An image is small, so what
// counts is the number of launches, one or two per transform; bytes: the image once or twice.
//
// The tables of numbers (fill, value, scale, shift, weights, taps) lie in the host's memory: they are read during the
// call and travel to the device as the parameters of a kernel (`on_device`), which costs no copy to wait for.
#include "ops/transform_images.h"

#include "cuda/elementwise.cuh"
#include "cuda/images.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// ---- tables -------------------------------------------------------------------------------------------------------

constexpr int kTableFloats = 960;  // a launch takes 4 KB of parameters
struct Table {
  float values[kTableFloats];
};

CONVCORE_KERNEL(kElementThreads)
store_table(__grid_constant__ const Table table, int count, float* to) {
  for (int i = int(threadIdx.x); i < count; i += kElementThreads) to[i] = table.values[i];
}

// Copies of tables in device memory, valid for the kernels of this call.
class TablesOnDevice {
 public:
  explicit TablesOnDevice(int64_t floats) : next_(workspace(kAffineWorkspace, floats)) {}
  template <typename T>
  const T* add(const T* values, int64_t count) {
    static_assert(sizeof(T) == sizeof(float), "tables are of 32-bit numbers");
    float* to = next_;
    for (int64_t done = 0; done < count; done += kTableFloats) {
      const int64_t some = count - done < kTableFloats ? count - done : kTableFloats;
      Table table{};
      for (int64_t i = 0; i < some; i++) __builtin_memcpy(&table.values[i], values + done + i, sizeof(float));
      launch("transform_images numbers", store_table, dim3(1), kElementThreads, 0, table, int(some), to + done);
    }
    next_ += count;
    return reinterpret_cast<const T*>(to);
  }

 private:
  float* next_;
};

// ---- in and out ---------------------------------------------------------------------------------------------------

struct FromBytes {
  float scale;
  const uint8_t* x;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = float(x[i]) * scale; }
};
struct Scale {
  float scale;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = in[0] * scale; }
};
struct ToBytes {
  const float* x;
  uint8_t* y;
  __device__ void operator()(int64_t i) const {
    const float v = x[i] * 255.0f;
    y[i] = !(v > 0) ? uint8_t(0) : v >= 255 ? uint8_t(255) : uint8_t(rintf(v));
  }
};
struct Mix {
  float weight, rest;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = in[0] * weight + in[1] * rest; }
};

void from_bytes(int64_t count, float scale, const uint8_t* x, float* y) {
  for_positions("transform_images from bytes", count, FromBytes{scale, x, y});
}
void from_floats(int64_t count, float scale, const float* x, float* y) {
  for_elements("transform_images scale", count, ElementArrays<1, 1>{{x}, {y}}, Scale{scale});
}
void to_bytes(int64_t count, const float* x, uint8_t* y) {
  for_positions("transform_images to bytes", count, ToBytes{x, y});
}
void mix(int64_t count, float weight, const float* other, float* x) {
  for_elements("transform_images mix", count, ElementArrays<2, 1>{{x, other}, {x}}, Mix{weight, 1.0f - weight});
}

// ---- geometry -----------------------------------------------------------------------------------------------------

// Planes (c, h, w) as for_pixels takes them: images of one channel.
Images planes(const ImageShape& s) { return {s.c, s.h, s.w, 1}; }

struct Crop {
  ImageShape in;
  ImageBox box;
  const float *fill, *x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const int64_t i = p.h + box.top, j = p.w + box.left;
    const bool inside = i >= 0 && i < in.h && j >= 0 && j < in.w;
    y[p.offset] = inside ? x[(p.n * in.h + i) * in.w + j] : fill[p.n];
  }
};

struct Flip {
  ImageShape s;
  bool horizontal;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const int64_t i = horizontal ? p.h : s.h - 1 - p.h, j = horizontal ? s.w - 1 - p.w : p.w;
    y[p.offset] = x[(p.n * s.h + i) * s.w + j];
  }
};

struct QuarterTurns {
  ImageShape in;
  int64_t turns;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    int64_t i = in.h - 1 - p.h, j = in.w - 1 - p.w;  // of two turns
    if (turns == 1) i = p.w, j = in.w - 1 - p.h;
    if (turns == 3) i = in.h - 1 - p.w, j = p.h;
    y[p.offset] = x[(p.n * in.h + i) * in.w + j];
  }
};

struct Rotate {
  ImageShape s;
  float cosine, sine;
  const float *fill, *x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float middle_i = 0.5f * float(s.h - 1), middle_j = 0.5f * float(s.w - 1);
    const float di = float(p.h) - middle_i, dj = float(p.w) - middle_j;
    const float row = fmaf(dj, sine, fmaf(cosine, di, middle_i)), column = fmaf(dj, cosine, middle_j - sine * di);
    const float upper = floorf(row), left = floorf(column), down = row - upper, right = column - left;
    const auto i = int64_t(upper), j = int64_t(left);
    float outside = 1, sum = 0;
    const auto corner = [&](int64_t h, int64_t w, float share) {
      if (h < 0 || h >= s.h || w < 0 || w >= s.w) return;
      outside -= share;
      sum = fmaf(share, x[(p.n * s.h + h) * s.w + w], sum);
    };
    corner(i, j, (1 - down) * (1 - right));
    corner(i, j + 1, (1 - down) * right);
    corner(i + 1, j, down * (1 - right));
    corner(i + 1, j + 1, down * right);
    y[p.offset] = fmaf(outside, fill[p.n], sum);
  }
};

// Lines of the box resized to `taps.size` pixels: out (c, box.h, size).
struct ResizeColumns {
  ImageShape in;
  ImageBox box;
  ResizeTaps taps;
  const float* x;
  float* out;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* from = x + (p.n * in.h + box.top + p.h) * in.w + box.left + taps.first[p.w];
    float sum = 0;
    for (int64_t t = 0; t < taps.taps; t++) sum = fmaf(taps.weights[t * taps.size + p.w], from[t], sum);
    out[p.offset] = sum;
  }
};
// The same down the columns: in (c, h, w), out (c, size, w).
struct ResizeRows {
  int64_t h, w;
  ResizeTaps taps;
  const float* in;
  float* out;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* from = in + (p.n * h + taps.first[p.h]) * w + p.w;
    float sum = 0;
    for (int64_t t = 0; t < taps.taps; t++) sum = fmaf(taps.weights[t * taps.size + p.h], from[t * w], sum);
    out[p.offset] = sum;
  }
};

struct Fill {
  ImageShape s;
  ImageBox box;
  const float* value;
  float* x;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    x[(p.n * s.h + box.top + p.h) * s.w + box.left + p.w] = value[p.n];
  }
};

void crop(const ImageShape& s, const ImageBox& box, const float* fill, const float* x, float* y) {
  TablesOnDevice tables(s.c);
  for_pixels("transform_images crop", planes({s.c, box.h, box.w}), false, Crop{s, box, tables.add(fill, s.c), x, y});
}
void flip(const ImageShape& s, bool horizontal, const float* x, float* y) {
  for_pixels("transform_images flip", planes(s), false, Flip{s, horizontal, x, y});
}
void quarter_turns(const ImageShape& s, int64_t turns, const float* x, float* y) {
  const ImageShape out = turns == 2 ? s : ImageShape{s.c, s.w, s.h};
  for_pixels("transform_images quarter turns", planes(out), false, QuarterTurns{s, turns, x, y});
}
void rotate(const ImageShape& s, float cosine, float sine, const float* fill, const float* x, float* y) {
  TablesOnDevice tables(s.c);
  for_pixels("transform_images rotate", planes(s), false, Rotate{s, cosine, sine, tables.add(fill, s.c), x, y});
}

// Channel by channel where the scratch is for one: box.h * columns.size floats.
void resize(const ImageShape& s, const ImageBox& box, const ResizeTaps& rows, const ResizeTaps& columns, const float* x,
            float* scratch, float* y) {
  TablesOnDevice tables((rows.taps + 1) * rows.size + (columns.taps + 1) * columns.size);
  const auto copied = [&](const ResizeTaps& t) {
    return ResizeTaps{t.size, t.taps, tables.add(t.first, t.size), tables.add(t.weights, t.taps * t.size)};
  };
  const ResizeTaps of_rows = copied(rows), of_columns = copied(columns);
  for (int64_t c = 0; c < s.c; c++) {
    for_pixels("transform_images resize columns", {1, box.h, columns.size, 1}, false,
               ResizeColumns{s, box, of_columns, x + c * s.h * s.w, scratch});
    for_pixels("transform_images resize rows", {1, rows.size, columns.size, 1}, false,
               ResizeRows{box.h, columns.size, of_rows, scratch, y + c * rows.size * columns.size});
  }
}

void fill(const ImageShape& s, const ImageBox& box, const float* value, float* x) {
  if (box.h <= 0 || box.w <= 0) return;
  TablesOnDevice tables(s.c);
  for_pixels("transform_images fill", planes({s.c, box.h, box.w}), false, Fill{s, box, tables.add(value, s.c), x});
}

// ---- colour -------------------------------------------------------------------------------------------------------

constexpr float kRed = 0.2989f, kGreen = 0.587f, kBlue = 0.114f;  // of ITU-R 601, as torchvision rounds them
CONVCORE_DEVICE float grey(float red, float green, float blue) {
  return fmaf(red, kRed, fmaf(green, kGreen, blue * kBlue));
}
CONVCORE_DEVICE float clip(float v) { return v < 0 ? 0.0f : v > 1 ? 1.0f : v; }  // a NaN stays

struct Blend {  // x = clip(factor * x + (1 - factor) * mean)
  float factor;
  const float* mean;  // null: 0
  __device__ void operator()(int64_t, const float* in, float* out) const {
    out[0] = clip(fmaf(in[0], factor, mean ? (1 - factor) * mean[0] : 0.0f));
  }
};

// The mean grey: one block. Channel c counts `weight(c)`.
CONVCORE_KERNEL(kElementThreads)
mean_grey(ImageShape s, const float* x, float* mean) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kElementThreads / kWarp);
  const int64_t pixels = s.h * s.w;
  double total = 0;
  for (int64_t c = 0; c < s.c; c++) {
    const float weight = s.c != 3 ? 1.0f / float(s.c) : c == 0 ? kRed : c == 1 ? kGreen : kBlue;
    double sum = 0;
    for (int64_t i = int(threadIdx.x); i < pixels; i += kElementThreads) sum += double(x[c * pixels + i]);
    total += sum * double(weight);
  }
  total = block_sum<kElementThreads>(total, scratch);
  if (threadIdx.x == 0) mean[0] = float(total / double(pixels));
}

struct Saturation {
  int64_t pixels;
  float factor;
  float* x;
  __device__ void operator()(int64_t i) const {
    const float rest = (1 - factor) * grey(x[i], x[pixels + i], x[2 * pixels + i]);
    for (int c = 0; c < 3; c++) x[c * pixels + i] = clip(fmaf(x[c * pixels + i], factor, rest));
  }
};

// Red, green or blue of a colour: value - chroma * max(0, min(k, 4 - k, 1)) with k = n + hue, in sixths of the circle.
CONVCORE_DEVICE float primary(float n, float hue, float value, float chroma) {
  const float sixths = hue + n, k = sixths - floorf(sixths * (1.0f / 6.0f)) * 6.0f, other = 4.0f - k;
  return value - chroma * clip(k < other ? k : other);
}
struct Hue {
  int64_t pixels;
  float turn;
  float* x;
  __device__ void operator()(int64_t i) const {
    const float r = x[i], g = x[pixels + i], b = x[2 * pixels + i];
    const float high = fmaxf(r, fmaxf(g, b)), low = fminf(r, fminf(g, b)), chroma = high - low;
    const float inverse = 1.0f / (chroma > 0 ? chroma : 1.0f);
    float hue = high == r ? (g - b) * inverse : high == g ? fmaf(b - r, inverse, 2.0f) : fmaf(r - g, inverse, 4.0f);
    hue += 6.0f * turn;
    x[i] = primary(5.0f, hue, high, chroma);
    x[pixels + i] = primary(3.0f, hue, high, chroma);
    x[2 * pixels + i] = primary(1.0f, hue, high, chroma);
  }
};

struct Grayscale {
  int64_t pixels, channels_out;
  const float* x;
  float* y;
  __device__ void operator()(int64_t i) const {
    const float g = grey(x[i], x[pixels + i], x[2 * pixels + i]);
    for (int64_t c = 0; c < channels_out; c++) y[c * pixels + i] = g;
  }
};

struct Normalize {
  const float *scale, *shift;
  float* x;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    x[p.offset] = fmaf(x[p.offset], scale[p.n], shift[p.n]);
  }
};

void brightness(const ImageShape& s, float factor, float* x) {
  for_elements("transform_images brightness", s.count(), ElementArrays<1, 1>{{x}, {x}}, Blend{factor, nullptr});
}
void contrast(const ImageShape& s, float factor, float* x) {
  if (s.count() == 0) return;
  float* mean = workspace(kAffineWorkspace, 1);
  launch("transform_images mean grey", mean_grey, dim3(1), kElementThreads,
         shared_bytes<double>(kElementThreads / kWarp), s, x, mean);
  for_elements("transform_images contrast", s.count(), ElementArrays<1, 1>{{x}, {x}}, Blend{factor, mean});
}
void saturation(const ImageShape& s, float factor, float* x) {
  for_positions("transform_images saturation", s.h * s.w, Saturation{s.h * s.w, factor, x});
}
void hue(const ImageShape& s, float turn, float* x) {
  for_positions("transform_images hue", s.h * s.w, Hue{s.h * s.w, turn, x});
}
void grayscale(const ImageShape& s, int64_t channels_out, const float* x, float* y) {
  for_positions("transform_images grayscale", s.h * s.w, Grayscale{s.h * s.w, channels_out, x, y});
}
void normalize(const ImageShape& s, const float* scale, const float* shift, float* x) {
  TablesOnDevice tables(2 * s.c);
  const float *by = tables.add(scale, s.c), *plus = tables.add(shift, s.c);
  for_pixels("transform_images normalize", planes(s), false, Normalize{by, plus, x});
}

// ---- noise, blur, Sobel -------------------------------------------------------------------------------------------

// Box and Muller: elements 2 k and 2 k + 1 take the numbers 2 k and 2 k + 1 of the stream, the first for the length,
// the second for the angle; the even element is the cosine's. A thread makes the four of a Philox block.
struct Noise {
  int64_t count;
  RandomKey key;
  float mean, sigma;
  bool clipped;
  float* x;
  __device__ void operator()(int64_t block) const {
    const Philox random = philox_at(key, uint64_t(block));
    CONVCORE_UNROLL
    for (int pair = 0; pair < 2; pair++) {
      const float u = float(random.value[2 * pair] >> 8) * (1.0f / 16777216.0f);
      const float turns = float(random.value[2 * pair + 1] >> 8) * (1.0f / 16777216.0f);
      const float radius = sqrtf(logf(1 - u) * -2.0f) * sigma;
      float sine, cosine;
      sincospif(2 * turns, &sine, &cosine);
      add(4 * block + 2 * pair, fmaf(radius, cosine, mean));
      add(4 * block + 2 * pair + 1, fmaf(radius, sine, mean));
    }
  }
  __device__ void add(int64_t at, float noise) const {
    if (at >= count) return;
    x[at] = clipped ? clip(x[at] + noise) : x[at] + noise;
  }
};

// -1, -2, ... and count, count + 1, ... are 1, 2, ... and count - 2, count - 3, ...
CONVCORE_DEVICE int64_t mirrored(int64_t i, int64_t count) {
  if (i < 0) i = -i;
  return i < count ? i : 2 * (count - 1) - i;
}

// Down the columns of one plane, or along its rows.
struct Blur {
  int64_t h, w, size;
  bool along_rows;
  const float *weights, *x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    float sum = 0;
    for (int64_t t = 0; t < size; t++) {
      const int64_t i = along_rows ? p.h : mirrored(p.h + t - size / 2, h);
      const int64_t j = along_rows ? mirrored(p.w + t - size / 2, w) : p.w;
      sum = fmaf(weights[t], x[i * w + j], sum);
    }
    y[p.offset] = sum;
  }
};

struct Sobel {
  int64_t h, w;
  const float* x;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    const float* plane = x + p.n * h * w;
    float v[3][3];
    for (int r = 0; r < 3; r++)
      for (int q = 0; q < 3; q++) v[r][q] = plane[within(p.h + r - 1, h) * w + within(p.w + q - 1, w)];
    const float gx = (v[0][2] + v[1][2] * 2 + v[2][2]) - (v[0][0] + v[1][0] * 2 + v[2][0]);
    const float gy = (v[2][0] - v[0][0]) + (v[2][1] - v[0][1]) * 2 + (v[2][2] - v[0][2]);
    const float length = sqrtf(gx * gx + gy * gy);
    y[p.offset] = length > 1 ? 1.0f : length;
  }
  __device__ static int64_t within(int64_t i, int64_t count) { return i < 0 ? 0 : i < count ? i : count - 1; }
};

void noise(int64_t count, RandomKey key, float mean, float sigma, bool clip, float* x) {
  for_positions("transform_images noise", (count + 3) / 4, Noise{count, key, mean, sigma, clip, x});
}
void blur(const ImageShape& s, int64_t rows, const float* row_weights, int64_t columns, const float* column_weights,
          const float* x, float* scratch, float* y) {
  TablesOnDevice tables(rows + columns);
  const float *down = tables.add(row_weights, rows), *along = tables.add(column_weights, columns);
  const int64_t pixels = s.h * s.w;
  for (int64_t c = 0; c < s.c; c++) {  // the scratch holds one plane
    for_pixels("transform_images blur", {1, s.h, s.w, 1}, false,
               Blur{s.h, s.w, rows, false, down, x + c * pixels, scratch});
    for_pixels("transform_images blur", {1, s.h, s.w, 1}, false,
               Blur{s.h, s.w, columns, true, along, scratch, y + c * pixels});
  }
}
void sobel(const ImageShape& s, const float* x, float*, float* y) {
  for_pixels("transform_images sobel", planes(s), false, Sobel{s.h, s.w, x, y});
}

}  // namespace

TransformImagesKernels transform_images_kernels() {
  TransformImagesKernels k{};
  k.from_bytes = from_bytes;
  k.from_floats = from_floats;
  k.to_bytes = to_bytes;
  k.mix = mix;
  k.crop = crop;
  k.flip = flip;
  k.quarter_turns = quarter_turns;
  k.rotate = rotate;
  k.resize = resize;
  k.fill = fill;
  k.brightness = brightness;
  k.contrast = contrast;
  k.saturation = saturation;
  k.hue = hue;
  k.grayscale = grayscale;
  k.noise = noise;
  k.blur = blur;
  k.sobel = sobel;
  k.normalize = normalize;
  return k;
}

}  // namespace convcore::cuda

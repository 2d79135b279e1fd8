// pad: copies. A row of the result is a row of the image, copied as a whole, and the pixels beside it one by one.
// Row-major: a plane is one item; channels-last: forward a row of the result, backward an image.
#include "ops/pad.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

// The pixel of the image that pixel `p` (counted from the image's first, so perhaps negative) is made from; -1: none.
static inline int64_t source_of(PadMode mode, int64_t p, int64_t size) {
  if (p >= 0 && p < size) return p;
  if (mode == PadMode::reflect) return p < 0 ? -p : 2 * (size - 1) - p;
  if (mode == PadMode::replicate) return p < 0 ? 0 : size - 1;
  if (mode == PadMode::circular) return p < 0 ? p + size : p - size;
  return -1;
}

static inline int64_t source_row(const PadShape& s, int64_t i) {
  return source_of(s.params.mode, i - s.params.top, s.h_in);
}

// f(j, column of the image or -1) for the pixels of a row that lie beside the image, in order.
template <typename F>
CONVCORE_INLINE void for_each_pixel_beside(const PadShape& s, const F& f) {
  for (int64_t j = 0; j < s.params.left; j++) f(j, source_of(s.params.mode, j - s.params.left, s.w_in));
  for (int64_t j = s.params.left + s.w_in; j < s.w_out; j++) f(j, source_of(s.params.mode, j - s.params.left, s.w_in));
}

static inline void fill(float* y, int64_t count, float value) {
  const Vec v = splat(value);
  for_each_vector(count, [&](int64_t i, int64_t lanes) { store_lanes(y + i, v, lanes); });
}

static inline void add_to(float* sum, int64_t count, const float* x) {
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    store_lanes(sum + i, load_lanes(sum + i, lanes) + load_lanes(x + i, lanes), lanes);
  });
}

// ---- rows: of `c` floats per pixel, 1 in row-major order ------------------------------------------------------------

static void forward_row(const PadShape& s, int64_t i, int64_t c, const float* image, float* y) {
  const int64_t h = source_row(s, i);
  if (h < 0) return fill(y, s.w_out * c, s.params.value);
  const float* x = image + h * s.w_in * c;
  memcpy(y + s.params.left * c, x, size_t(s.w_in * c) * sizeof(float));
  for_each_pixel_beside(s, [&](int64_t j, int64_t w) {
    if (w < 0)
      fill(y + j * c, c, s.params.value);
    else
      memcpy(y + j * c, x + w * c, size_t(c) * sizeof(float));
  });
}

static void backward_row(const PadShape& s, int64_t i, int64_t c, const float* dy, float* image) {
  const int64_t h = source_row(s, i);
  if (h < 0) return;
  float* dx = image + h * s.w_in * c;
  add_to(dx, s.w_in * c, dy + s.params.left * c);
  for_each_pixel_beside(s, [&](int64_t j, int64_t w) {
    if (w < 0) return;
    if (c == 1)
      dx[w] += dy[j];
    else
      add_to(dx + w * c, c, dy + j * c);
  });
}

// ---- images -------------------------------------------------------------------------------------------------------

// Images of `c` floats per pixel, and how many there are.
struct PaddedImages {
  int64_t count, c;
  PaddedImages(const PadShape& s, Layout layout)
      : count(layout == Layout::row_major ? s.n * s.c : s.n), c(layout == Layout::row_major ? 1 : s.c) {}
};

static void forward(const PadShape& s, Layout layout, const float* x, float* y) {
  const PaddedImages images(s, layout);
  const int64_t c = images.c, in = s.h_in * s.w_in * c, row = s.w_out * c;
  parallel_for(images.count * s.h_out, row, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) forward_row(s, r % s.h_out, c, x + r / s.h_out * in, y + r * row);
  });
}

static void backward(const PadShape& s, Layout layout, const float* dy, float* dx) {
  const PaddedImages images(s, layout);
  const int64_t c = images.c, in = s.h_in * s.w_in * c, row = s.w_out * c;
  parallel_for(images.count, s.h_out * row, [&](int64_t begin, int64_t end) {
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t image = begin; image < end; image++)
      for (int64_t i = 0; i < s.h_out; i++) backward_row(s, i, c, dy + (image * s.h_out + i) * row, dx + image * in);
  });
}

PadKernels pad_kernels();
PadKernels pad_kernels() { return {forward, backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

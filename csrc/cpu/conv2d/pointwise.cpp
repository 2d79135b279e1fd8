// conv2d with 1x1 filters as matrix products over channels-last images: pixels are rows, channels are columns.
//
//   y = x w^T + b,   dx = dy w,   dw = dy^T x
//
// With a stride, only the pixels that the filter meets take part. Forward gathers them block by block, backward to the
// input spreads a block of rows over dx with zeros between, and backward to the weights gathers them all.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/gemm.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int64_t kBlockPixels = 96;  // gathered at once: they stay in L2 until the product has read them

bool strided(const Conv2dShape& s) { return s.window.h.stride > 1 || s.window.w.stride > 1; }
int64_t pixels_of(const Conv2dShape& s) { return s.n * s.h_out * s.w_out; }

void copy_floats(const float* from, int64_t floats, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= floats; i += kLanes) store(to + i, load(from + i));
  if (i < floats) store_partial(to + i, load_partial(from + i, floats - i), floats - i);
}

void fill_zeros(float* to, int64_t floats) {
  int64_t i = 0;
  for (; i + kLanes <= floats; i += kLanes) store(to + i, Vec{});
  if (i < floats) store_partial(to + i, Vec{}, floats - i);
}

// The pixels of x that output pixels begin .. end - 1 meet, one behind the other.
void gather_pixels(const Conv2dShape& s, const float* x, int64_t begin, int64_t end, float* to) {
  for (int64_t p = begin; p < end;) {
    const int64_t row = p / s.w_out, n = row / s.h_out, i = row % s.h_out * s.window.h.stride;
    const float* from = x + (n * s.h_in + i) * s.w_in * s.c_in;
    for (int64_t j = p % s.w_out; j < s.w_out && p < end; j++, p++, to += s.c_in)
      copy_floats(from + j * s.window.w.stride * s.c_in, s.c_in, to);
  }
}

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

void pointwise_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  const int64_t pixels = pixels_of(s);
  const Matrix turned{w, 1, s.c_in};
  if (!strided(s)) return gemm({pixels, s.c_out, s.c_in}, {x, s.c_in, 1}, turned, y, s.c_out, b);

  const Buffer<float> packed(gemm_packed_floats(s.c_in, s.c_out));
  gemm_pack(s.c_in, s.c_out, turned, packed.data);
  const int64_t blocks = (pixels + kBlockPixels - 1) / kBlockPixels;
  parallel_for(blocks, kBlockPixels * s.c_in * s.c_out / kLanes, [&](int64_t first, int64_t last) {
    float* gathered = workspace(kPlaneSlot, kBlockPixels * s.c_in);
    for (int64_t block = first; block < last; block++) {
      const int64_t begin = block * kBlockPixels, end = min_of(pixels, begin + kBlockPixels);
      gather_pixels(s, x, begin, end, gathered);
      gemm_with_packed({end - begin, s.c_out, s.c_in}, {gathered, s.c_in, 1}, packed.data, y + begin * s.c_out, s.c_out,
                       b);
    }
  });
}

// ---- backward: input ----------------------------------------------------------------------------------------------

namespace {

// Rows `row` .. of dx that belong to one row of dy: the first has every stride-th pixel from `from`, the others zeros.
void spread_row(const Conv2dShape& s, const float* from, float* row, int64_t rows) {
  const int64_t gap = (s.window.w.stride - 1) * s.c_in, row_floats = s.w_in * s.c_in;
  float* to = row;
  for (int64_t j = 0; j + 1 < s.w_out; j++, from += s.c_in, to += s.c_in + gap) {
    copy_floats(from, s.c_in, to);
    fill_zeros(to + s.c_in, gap);
  }
  copy_floats(from, s.c_in, to);
  to += s.c_in;
  fill_zeros(to, row + rows * row_floats - to);
}

}  // namespace

void pointwise_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  const Matrix weights{w, s.c_in, 1};
  if (!strided(s)) return gemm({pixels_of(s), s.c_in, s.c_out}, {dy, s.c_out, 1}, weights, dx, s.c_in, nullptr);

  const Buffer<float> packed(gemm_packed_floats(s.c_out, s.c_in));
  gemm_pack(s.c_out, s.c_in, weights, packed.data);
  const int64_t rows = s.n * s.h_out, block_rows = max_of<int64_t>(1, kBlockPixels / s.w_out);
  const int64_t blocks = (rows + block_rows - 1) / block_rows;
  parallel_for(blocks, block_rows * s.w_out * s.c_in * s.c_out / kLanes, [&](int64_t first, int64_t last) {
    float* block_dx = workspace(kPlaneSlot, block_rows * s.w_out * s.c_in);
    for (int64_t block = first; block < last; block++) {
      const int64_t begin = block * block_rows, count = min_of(rows - begin, block_rows);
      gemm_with_packed({count * s.w_out, s.c_in, s.c_out}, {dy + begin * s.w_out * s.c_out, s.c_out, 1}, packed.data,
                       block_dx, s.c_in, nullptr);
      for (int64_t r = 0; r < count; r++) {
        const int64_t n = (begin + r) / s.h_out, i = (begin + r) % s.h_out, h = i * s.window.h.stride;
        spread_row(s, block_dx + r * s.w_out * s.c_in, dx + (n * s.h_in + h) * s.w_in * s.c_in,
                   i + 1 < s.h_out ? s.window.h.stride : s.h_in - h);
      }
    }
  });
}

// ---- backward: weights --------------------------------------------------------------------------------------------

void pointwise_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const int64_t pixels = pixels_of(s);
  const Buffer<float> gathered(strided(s) ? pixels * s.c_in : 0);
  if (strided(s)) {
    const int64_t rows = s.n * s.h_out;
    parallel_for(rows, s.w_out * s.c_in / kLanes, [&](int64_t begin, int64_t end) {
      gather_pixels(s, x, begin * s.w_out, end * s.w_out, gathered.data + begin * s.w_out * s.c_in);
    });
    x = gathered.data;
  }
  gemm({s.c_out, s.c_in, pixels}, {dy, 1, s.c_out}, {x, s.c_in, 1}, dw, s.c_in, nullptr);
}

}  // namespace convcore::cpu::CONVCORE_ISA

// conv2d on channels-last images. Formula: ops/conv2d.h.
//
// One group and at most kMaxTaps taps: the products of product.h.
//
//   forward          the taps product over the output's pixels: pixel (i, j) meets the pixels
//                    (i * stride - pad + r * dilation, ...).
//   backward input   pixels of dx whose place modulo the stride is the same see the same taps: a phase of the taps
//                    product for each such place, over exactly the taps that hit, on dy, with the filters turned. No
//                    product with a zero.
//   backward weight  the pixels product.
//
// Filters are packed as (c_out, taps, c_in) before, or (c_in, taps, c_out) for backward.
//
// The rest (groups, depthwise, very large filters): conv2d_groups.cu.
#include "ops/conv2d.h"

#include "cuda/channel_sums.cuh"
#include "cuda/conv2d_groups.h"
#include "cuda/conv2d_products.h"
#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// ---- packing filters ------------------------------------------------------------------------------------------------

// packed (c_out, taps, c_in), or turned (c_in, taps, c_out), from w (c_out, c_in, taps)
struct Pack {
  int64_t c_out, c_in, taps;
  bool turned;
  const float* w;
  float* packed;
  __device__ void operator()(int64_t at) const {
    const int64_t inner = turned ? c_out : c_in, outer = at / inner / taps;
    const int64_t in = at % inner, tap = at / inner % taps;
    packed[at] = w[((turned ? in : outer) * c_in + (turned ? outer : in)) * taps + tap];
  }
};

const float* pack(const Conv2dShape& s, bool turned, const float* w) {
  if (s.taps() == 1 && !turned) return w;
  const int64_t count = s.c_out * s.c_in * s.taps();
  float* packed = workspace(kWeightsWorkspace, count);
  for_positions("conv2d filters", count, Pack{s.c_out, s.c_in, s.taps(), turned, w, packed});
  return packed;
}

// ---- the passes as products -----------------------------------------------------------------------------------------

// All taps, as seen from the pixels of the output.
Phase all_taps(const Conv2dShape& s, Taps* taps) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  taps->count = int(s.taps());
  for (int t = 0; t < taps->count; t++) {
    taps->h[t] = int16_t(t / w.kernel * h.dilation - h.pad_before);
    taps->w[t] = int16_t(t % w.kernel * w.dilation - w.pad_before);
    taps->index[t] = int16_t(t);
  }
  Phase all{};
  all.rows = int(s.h_out), all.columns = int(s.w_out), all.taps = taps->count;
  all.low_h = taps->h[0], all.high_h = taps->h[taps->count - 1];
  all.low_w = taps->w[0], all.high_w = taps->w[taps->count - 1];
  return all;
}

// The pixels first, first + stride, ... of dx along an axis, and for the taps that hit them the shift in dy.
struct AxisPhase {
  int first, count;
  int taps[kMaxTaps], shift[kMaxTaps], hits;
};

AxisPhase phase_of(const WindowAxis& w, int64_t in, int64_t phase) {
  AxisPhase p{};
  p.first = int(phase);
  p.count = int((in - phase + w.stride - 1) / w.stride);
  for (int64_t r = 0; r < w.kernel; r++) {
    const int64_t offset = phase + w.pad_before - r * w.dilation;  // dy's pixel, times the stride
    if (offset % w.stride != 0) continue;
    p.taps[p.hits] = int(r);
    p.shift[p.hits++] = int(offset / w.stride);
  }
  return p;
}

// The pixels of dx at a place modulo the stride. Shifts fall from tap to tap.
Phase input_phase(const Conv2dShape& s, const AxisPhase& rows, const AxisPhase& columns, Taps* taps) {
  Phase p{};
  p.rows = rows.count, p.columns = columns.count, p.out_h0 = rows.first, p.out_w0 = columns.first;
  p.first_tap = taps->count, p.taps = rows.hits * columns.hits;
  if (p.taps == 0) return p;
  p.low_h = rows.shift[rows.hits - 1], p.high_h = rows.shift[0];
  p.low_w = columns.shift[columns.hits - 1], p.high_w = columns.shift[0];
  for (int r = 0; r < rows.hits; r++)
    for (int q = 0; q < columns.hits; q++) {
      const int t = taps->count++;
      taps->h[t] = int16_t(rows.shift[r]), taps->w[t] = int16_t(columns.shift[q]);
      taps->index[t] = int16_t(rows.taps[r] * s.window.w.kernel + columns.taps[q]);
    }
  return p;
}

}  // namespace

bool fits_products(const Conv2dShape& s) {
  const auto fits = [](int64_t n, int64_t h, int64_t w) { return double(n) * double(h) * double(w) < double(1 << 28); };
  const auto extent = [](const WindowAxis& w) { return w.extent() + w.pad_before < (1 << 14); };
  return s.groups == 1 && s.taps() <= kMaxTaps && fits(s.n, s.h_in, s.w_in) && fits(s.n, s.h_out, s.w_out) &&
         s.h_in < (1 << 20) && s.w_in < (1 << 20) && extent(s.window.h) && extent(s.window.w) &&
         s.window.h.extent() * s.window.w.extent() <= kMaxSpanPixels &&
         s.window.h.stride * s.window.w.stride <= kMaxPhases;
}

TapsProduct forward_product(const Conv2dShape& s) {
  TapsProduct p{};
  p.in = plain_operand(nullptr, s.h_in, s.w_in, s.c_in);
  p.step_h = int(s.window.h.stride), p.step_w = int(s.window.w.stride), p.images = int(s.n);
  p.phases = 1, p.phase[0] = all_taps(s, &p.taps);
  p.filter_taps = int(s.taps()), p.c_out = int(s.c_out);
  p.out_h = int(s.h_out), p.out_w = int(s.w_out), p.out_step_h = p.out_step_w = 1;
  return p;
}

TapsProduct backward_input_product(const Conv2dShape& s) {
  TapsProduct p{};
  p.in = plain_operand(nullptr, s.h_out, s.w_out, s.c_out);
  p.step_h = p.step_w = 1, p.images = int(s.n);
  for (int64_t h = 0; h < s.window.h.stride && h < s.h_in; h++)
    for (int64_t w = 0; w < s.window.w.stride && w < s.w_in; w++)
      p.phase[p.phases++] = input_phase(s, phase_of(s.window.h, s.h_in, h), phase_of(s.window.w, s.w_in, w), &p.taps);
  p.filter_taps = int(s.taps()), p.c_out = int(s.c_in);
  p.out_h = int(s.h_in), p.out_w = int(s.w_in);
  p.out_step_h = int(s.window.h.stride), p.out_step_w = int(s.window.w.stride);
  return p;
}

PixelsProduct backward_weight_product(const Conv2dShape& s) {
  PixelsProduct p{};
  p.in = plain_operand(nullptr, s.h_in, s.w_in, s.c_in);
  p.dy = plain_operand(nullptr, s.h_out, s.w_out, s.c_out);
  p.step_h = int(s.window.h.stride), p.step_w = int(s.window.w.stride), p.images = int(s.n);
  p.phase = all_taps(s, &p.taps);
  return p;
}

namespace {

void product_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  TapsProduct p = forward_product(s);
  p.in.data = x, p.w = pack(s, false, w), p.out = y, p.epilogue.bias = b;
  taps_product("conv2d", p);
}

void product_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  TapsProduct p = backward_input_product(s);
  p.in.data = dy, p.w = pack(s, true, w), p.out = dx;
  taps_product("conv2d backward input", p);
}

void product_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  PixelsProduct p = backward_weight_product(s);
  p.in.data = x, p.dy.data = dy;
  pixels_product("conv2d backward weight", p, false, dw);
}

// ---- the table ------------------------------------------------------------------------------------------------------

void forward(const Conv2dShape& s, const float* x, Layout, const float* w, const float* b, float* y) {
  if (fits_products(s)) return product_forward(s, x, w, b, y);
  conv2d_groups_forward(s, x, w, b, y);
}

void backward_input(const Conv2dShape& s, const float* dy, Layout, const float* w, float* dx) {
  if (fits_products(s)) return product_backward_input(s, dy, w, dx);
  conv2d_groups_backward_input(s, dy, w, dx);
}

void backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  if (fits_products(s)) return product_backward_weight(s, dy, x, dw);
  conv2d_groups_backward_weight(s, dy, x, dw);
}

void backward_bias(const Conv2dShape& s, const float* dy, Layout, float* db) {
  channel_sums("conv2d backward bias", s.n * s.h_out * s.w_out, s.c_out, Column{dy, s.c_out}, StoreSum{db});
}

}  // namespace

Conv2dKernels conv2d_kernels() {
  Conv2dKernels kernels{};
  kernels.direct_forward = forward;
  kernels.direct_backward_input = backward_input;
  kernels.direct_backward_weight = backward_weight;
  kernels.backward_bias = backward_bias;
  return kernels;
}

}  // namespace convcore::cuda

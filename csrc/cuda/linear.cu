// linear: the products of product.h with one tap, on "images" of one pixel.
#include "ops/linear.h"

#include "cuda/channel_sums.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/product.h"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

TapsProduct product(int64_t n, const float* x, int64_t in, const float* w, int64_t out, float* y) {
  TapsProduct p{};
  p.in = plain_operand(x, 1, 1, in);
  p.step_h = p.step_w = 1, p.images = int(n);
  p.taps.count = p.phases = p.phase[0].rows = p.phase[0].columns = p.phase[0].taps = 1;
  p.w = w, p.filter_taps = 1, p.c_out = int(out), p.out = y;
  p.out_h = p.out_w = p.out_step_h = p.out_step_w = 1;
  return p;
}

void forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  TapsProduct p = product(s.n, x, s.in, w, s.out, y);
  p.epilogue.bias = b;
  taps_product("linear", p);
}

void backward_input(const LinearShape& s, const float* dy, const float* w, float* dx) {
  float* turned = workspace(kWeightsWorkspace, s.in * s.out);
  reorder_kernels().transpose(1, s.out, s.in, w, turned);
  taps_product("linear backward input", product(s.n, dy, s.out, turned, s.in, dx));
}

void backward_weight(const LinearShape& s, const float* dy, const float* x, float* dw) {
  PixelsProduct p{};
  p.in = plain_operand(x, 1, 1, s.in), p.dy = plain_operand(dy, 1, 1, s.out);
  p.step_h = p.step_w = 1, p.images = int(s.n);
  p.taps.count = p.phase.rows = p.phase.columns = p.phase.taps = 1;
  pixels_product("linear backward weight", p, true, dw);
}

void backward_bias(const LinearShape& s, const float* dy, float* db) {
  channel_sums("linear backward bias", s.n, s.out, Column{dy, s.out}, StoreSum{db});
}

}  // namespace

LinearKernels linear_kernels() {
  LinearKernels kernels{};
  kernels.forward = forward;
  kernels.backward_input = backward_input;
  kernels.backward_weight = backward_weight;
  kernels.backward_bias = backward_bias;
  return kernels;
}

}  // namespace convcore::cuda

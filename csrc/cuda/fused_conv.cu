// Convolutions of which batch norm, ReLU and residual sums are a part: the products of product.h, whose operands are
// made on the way (operand.cuh) and whose epilogues make the sums. Formulas: ops/fused_conv.h.
#include "ops/fused_conv.h"

#include "cuda/conv2d_products.h"
#include "cuda/fused.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

int widest(const Conv2dShape& s) { return int(s.c_in > s.c_out ? s.c_in : s.c_out); }

// Every pixel of the input is in the patch of the box that stores it.
bool stores_all(const Conv2dShape& s) {
  const auto covers = [](const WindowAxis& w, int64_t in, int64_t out) {
    const int64_t last = (w.kernel - 1) * w.dilation - w.pad_before;  // shift of the last tap
    return w.pad_before >= 0 && last >= w.stride - 1 && (out - 1) * w.stride + last >= in - 1;
  };
  return covers(s.window.h, s.h_in, s.h_out) && covers(s.window.w, s.w_in, s.w_out);
}

bool takes(const Conv2dShape& s, bool stored) { return fits_products(s) && (!stored || stores_all(s)); }

Operand gradient_operand(const Conv2dShape& s, const FusedGradient& dy) {
  Operand o = plain_operand(dy.dz, s.h_out, s.w_out, s.c_out);
  const BatchNormInputGradient& g = dy.batch_norm;
  if (!g.scale) return o;
  o.kind = OperandKind::gradient;
  o.x = dy.x, o.mean = g.mean, o.scale = g.scale, o.bias = g.center, o.slope = g.slope;
  return o;
}

void forward(const Conv2dShape& s, const FusedInput& in, const float* packed, const float* bias,
             const FusedStatistics& statistics, float* y) {
  TapsProduct p = forward_product(s);
  p.in = input_operand(in, s.h_in, s.w_in, s.c_in);
  p.in.stored = p.in.kind == OperandKind::affine ? in.stored : nullptr;
  p.w = packed, p.out = y, p.epilogue.bias = bias;
  if (statistics.mean) {
    const FusedStatistics& f = statistics;
    p.epilogue.sums = SumsKind::statistics;
    p.epilogue.statistics = {s.n * s.h_out * s.w_out, f.running_mean, f.momentum, f.eps,  f.mean,  f.rstd,
                             f.running_mean,          f.running_var,  f.weight,   f.bias, f.scale, f.shift};
    p.epilogue.arrivals = f.arrivals;
  }
  taps_product("conv2d and batch_norm", p);
}

void backward(const Conv2dShape& s, const FusedGradient& dy, const FusedInput& in, const float* turned,
              const FusedGradientSums& sums, float* dz, float* parts) {
  constexpr char kName[] = "conv2d and batch_norm backward";
  TapsProduct p = backward_input_product(s);
  if (dz) {
    p.in = gradient_operand(s, dy);
    p.w = turned, p.out = dz;
    Epilogue& e = p.epilogue;
    e.add = shortcut_of(sums.add, s.h_in, s.w_in, s.c_in);
    e.masked = sums.relu, e.y = sums.y, e.x = sums.x, e.affine = sums.affine;
    if (sums.x) {
      e.sums = SumsKind::gradient;
      e.gradient = backward_finish_of(sums, s.n * s.h_in * s.w_in);
      e.arrivals = sums.arrivals;
    }
  }
  if (!parts) return taps_product(kName, p);
  PixelsProduct q = backward_weight_product(s);
  q.in = in.stored ? plain_operand(in.stored, s.h_in, s.w_in, s.c_in) : input_operand(in, s.h_in, s.w_in, s.c_in);
  q.dy = gradient_operand(s, dy);
  pixels_product_parts(kName, q, widest(s), dz ? &p : nullptr, parts);
}

int64_t weight_splits(const Conv2dShape& s) { return pixels_product_splits(backward_weight_product(s), widest(s)); }

void sum_weight_parts(const Conv2dShape& s, const float* parts, float* dw) {
  sum_parts("conv2d backward weight", weight_splits(s), s.c_out, int(s.taps()), int(s.c_in), false, parts, dw);
}

}  // namespace

FusedConvKernels fused_conv_kernels() { return {takes, forward, backward, weight_splits, sum_weight_parts}; }

}  // namespace convcore::cuda

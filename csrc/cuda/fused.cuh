// From the structs of ops/fused_conv.h to what kernels take.
#pragma once
#include "cuda/batch_norm.cuh"
#include "cuda/operand.cuh"

namespace convcore::cuda {

inline Shortcut shortcut_of(const FusedShortcut& s, int64_t h, int64_t w, int64_t c) {
  const bool same = s.h == h && s.w == w && s.c == c && s.step_h == 1 && s.step_w == 1 && s.before == 0;
  return {s.values, int(s.h), int(s.w), int(s.c), int(s.step_h), int(s.step_w), int(s.before), same};
}

inline Operand input_operand(const FusedInput& in, int64_t h, int64_t w, int64_t c) {
  Operand o{};
  o.data = in.x, o.h = int(h), o.w = int(w), o.c = int(c);
  if (!in.affine.mean) return o;
  o.kind = OperandKind::affine;
  o.mean = in.affine.mean, o.scale = in.affine.scale, o.bias = in.affine.bias;
  o.residual = shortcut_of(in.residual, h, w, c), o.residual_affine = in.residual_affine;
  o.relu = in.relu;
  return o;
}

inline BatchNormBackwardFinish backward_finish_of(const FusedGradientSums& s, int64_t values) {
  return {values, s.rstd, s.weight, s.scale, s.center, s.slope, s.dweight, s.dbias};
}

}  // namespace convcore::cuda

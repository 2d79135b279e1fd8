// linear: a dense layer, and its gradients.
//
//   y[n,o] = b[o] + sum_i x[n,i] * w[o,i]
//   dx[n,i] = sum_o dy[n,o] * w[o,i]      dw[o,i] = sum_n dy[n,o] * x[n,i]      db[o] = sum_n dy[n,o]
//
// x (..., I), w (O, I), b (O,) or none, y (..., O); float32. n runs over all leading dimensions of x.
#pragma once
#include "core/array.h"

namespace convcore {

struct LinearShape {
  int64_t n, in, out;
};

Tensor linear_forward(const Tensor& x, const Tensor& w, const Tensor& b);

struct LinearGrads {
  Tensor dx, dw, db;  // not given where not asked for
};
LinearGrads linear_backward(const Tensor& dy, const Tensor& x, const Tensor& w, bool need_dx, bool need_dw,
                            bool need_db);

struct LinearKernels {
  void (*forward)(const LinearShape&,
                  const float* x,  // (N, I)
                  const float* w,  // (O, I)
                  const float* b,  // (O) or null
                  float* y);       // (N, O)
  void (*backward_input)(const LinearShape&, const float* dy, const float* w, float* dx);
  void (*backward_weight)(const LinearShape&, const float* dy, const float* x, float* dw);
  // Rows [begin, end) of dw alone.
  void (*backward_weight_rows)(const LinearShape&, int64_t begin, int64_t end, const float* dy, const float* x,
                               float* dw);
  void (*backward_bias)(const LinearShape&, const float* dy, float* db);
  // Forward and backward to the input with the weight packed beforehand, for callers that use it many times. The packed
  // weight is aligned to kAlignment.
  int64_t (*packed_floats)(const LinearShape&, bool backward);
  void (*pack)(const LinearShape&, bool backward, const float* w, float* packed);
  // Rows [begin, end) of w anew, on the calling thread; begin is a multiple of 16, end too or the last.
  void (*pack_rows)(const LinearShape&, bool backward, int64_t begin, int64_t end, const float* w, float* packed);
  void (*forward_packed)(const LinearShape&, const float* x, const float* packed, const float* b, float* y);
  void (*backward_input_packed)(const LinearShape&, const float* dy, const float* packed, float* dx);
};
}  // namespace convcore

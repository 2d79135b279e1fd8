// linear: dense layer forward and backward, three matrix products (cost n * in * out multiply-adds each).
#include "ops/linear.h"

#include "core/threads.h"
#include "cpu/gemm.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- forward ------------------------------------------------------------------------------------------------------

static void linear_forward(const LinearShape& s, const float* x, const float* w, const float* b, float* y) {
  gemm({s.n, s.out, s.in}, {x, s.in, 1}, {w, 1, s.in}, y, s.out, b);
}

// ---- backward -----------------------------------------------------------------------------------------------------

static void linear_backward_input(const LinearShape& s, const float* dy, const float* w, float* dx) {
  gemm({s.n, s.in, s.out}, {dy, s.out, 1}, {w, s.in, 1}, dx, s.in, nullptr);
}

static void linear_backward_weight_rows(const LinearShape& s, int64_t begin, int64_t end, const float* dy,
                                        const float* x, float* dw) {
  gemm({end - begin, s.in, s.n}, {dy + begin, 1, s.out}, {x, s.in, 1}, dw + begin * s.in, s.in, nullptr);
}

static void linear_backward_weight(const LinearShape& s, const float* dy, const float* x, float* dw) {
  linear_backward_weight_rows(s, 0, s.out, dy, x, dw);
}

static void linear_backward_bias(const LinearShape& s, const float* dy, float* db) {
  const int64_t blocks = (s.out + kLanes - 1) / kLanes;
  parallel_for(blocks, s.n * kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      const int64_t o = block * kLanes, lanes = min_of<int64_t>(kLanes, s.out - o);
      Vec total{};
      for (int64_t n = 0; n < s.n; n++) total += load_partial(dy + n * s.out + o, lanes);
      store_partial(db + o, total, lanes);
    }
  });
}

// ---- with a packed weight -----------------------------------------------------------------------------------------

static int64_t linear_packed_floats(const LinearShape& s, bool backward) {
  return backward ? gemm_packed_floats(s.out, s.in) : gemm_packed_floats(s.in, s.out);
}

static void linear_pack(const LinearShape& s, bool backward, const float* w, float* packed) {
  const Matrix rows{w, s.in, 1};  // (out, in)
  if (backward)
    gemm_pack(s.out, s.in, rows, packed);
  else
    gemm_pack(s.in, s.out, rows.transposed(), packed);
}

static void linear_pack_rows(const LinearShape& s, bool backward, int64_t begin, int64_t end, const float* w,
                             float* packed) {
  const Matrix rows{w, s.in, 1};
  if (backward)
    gemm_pack_part(s.out, s.in, rows, begin, end, 0, s.in, packed);
  else
    gemm_pack_part(s.in, s.out, rows.transposed(), 0, s.in, begin, end, packed);
}

static void linear_forward_packed(const LinearShape& s, const float* x, const float* packed, const float* b, float* y) {
  gemm_with_packed({s.n, s.out, s.in}, {x, s.in, 1}, packed, y, s.out, b);
}

static void linear_backward_input_packed(const LinearShape& s, const float* dy, const float* packed, float* dx) {
  gemm_with_packed({s.n, s.in, s.out}, {dy, s.out, 1}, packed, dx, s.in, nullptr);
}

LinearKernels linear_kernels();
LinearKernels linear_kernels() {
  return {linear_forward,
          linear_backward_input,
          linear_backward_weight,
          linear_backward_weight_rows,
          linear_backward_bias,
          linear_packed_floats,
          linear_pack,
          linear_pack_rows,
          linear_forward_packed,
          linear_backward_input_packed};
}

}  // namespace convcore::cpu::CONVCORE_ISA

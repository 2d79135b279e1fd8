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

LinearKernels linear_kernels();
LinearKernels linear_kernels() {
  return {linear_forward, linear_backward_input, linear_backward_weight, linear_backward_weight_rows,
          linear_backward_bias};
}

}  // namespace convcore::cpu::CONVCORE_ISA

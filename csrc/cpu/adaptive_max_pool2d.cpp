// adaptive_max_pool2d where the windows are no tiles: one plane is one item. Cost: one comparison per pixel of a
// window.
#include "ops/adaptive_max_pool2d.h"

#include "core/threads.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

struct Bounds {
  int64_t begin, end;
};
static inline Bounds bounds_of(int64_t i, int64_t in, int64_t out) {
  return {i * in / out, ((i + 1) * in + out - 1) / out};
}

static void max_of_plane(const AdaptiveAvgPool2dShape& s, const float* x, float* y, int32_t* indices) {
  for (int64_t i = 0; i < s.h_out; i++)
    for (int64_t j = 0; j < s.w_out; j++) {
      const Bounds rows = bounds_of(i, s.h_in, s.h_out), columns = bounds_of(j, s.w_in, s.w_out);
      int64_t best = rows.begin * s.w_in + columns.begin;
      for (int64_t h = rows.begin; h < rows.end; h++)
        for (int64_t at = h * s.w_in + columns.begin; at < h * s.w_in + columns.end; at++)
          if (x[at] > x[best] || x[at] != x[at]) best = at;  // the first of equal ones, the last NaN
      *y++ = x[best];
      *indices++ = int32_t(best);
    }
}

static void forward(const AdaptiveAvgPool2dShape& s, const float* x, float* y, int32_t* indices) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  parallel_for(s.planes, 2 * in + out, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++)
      max_of_plane(s, x + plane * in, y + plane * out, indices + plane * out);
  });
}

static bool backward(const AdaptiveAvgPool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  int foreign = 0;
  parallel_for(s.planes, in + out, [&](int64_t begin, int64_t end) {
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t plane = begin; plane < end; plane++)
      for (int64_t k = plane * out; k < (plane + 1) * out; k++) {
        if (indices[k] < 0 || indices[k] >= in) return __atomic_store_n(&foreign, 1, __ATOMIC_RELAXED);
        dx[plane * in + indices[k]] += dy[k];
      }
  });
  return foreign == 0;
}

AdaptiveMaxPool2dKernels adaptive_max_pool2d_kernels();
AdaptiveMaxPool2dKernels adaptive_max_pool2d_kernels() { return {forward, backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

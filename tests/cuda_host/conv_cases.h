// What the tests of convolutions share.
#pragma once
#include "helpers.h"

namespace convcore::test {

using cuda::Precision;

class With {
 public:
  explicit With(Precision p) { cuda_api().set_precision(int(p)); }
  ~With() { cuda_api().set_precision(int(Precision::fp32)); }
};

inline double bound_of(Precision p) { return p == Precision::bf16 ? 2e-2 : p == Precision::tf32 ? 3e-3 : kRounding; }

struct Case {
  const char* name;
  int64_t n, c_in, h, w, c_out;
  WindowAxis rows, columns;
  int64_t groups;
};

inline Conv2dShape shape_of(const Case& c) {
  Conv2dShape s{};
  s.n = c.n, s.c_in = c.c_in, s.h_in = c.h, s.w_in = c.w, s.c_out = c.c_out, s.groups = c.groups;
  s.window = {c.rows, c.columns};
  s.h_out = window_output_size("test", "H", c.h, c.rows);
  s.w_out = window_output_size("test", "W", c.w, c.columns);
  return s;
}

// The CPU's planar kernels read and leave row-major images.
inline Floats turned(const Floats& from, int64_t n, int64_t c, int64_t plane, bool to_channels_last) {
  Floats to(n * c * plane);
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < c; k++)
      for (int64_t p = 0; p < plane; p++) {
        const int64_t row_major = (i * c + k) * plane + p, last = (i * plane + p) * c + k;
        (to_channels_last ? to[last] : to[row_major]) = from[to_channels_last ? row_major : last];
      }
  return to;
}

}  // namespace convcore::test

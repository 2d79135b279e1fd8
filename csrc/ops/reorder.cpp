#include "ops/reorder.h"

#include "ops/kernels.h"

namespace convcore {

Tensor reorder(const char* op, const Tensor& x, Layout layout) {
  if (x.layout() == layout) return x;
  expect_rank(op, "x", x.shape(), 4, "(N, C, H, W)");
  const int64_t n = x.size(0), c = x.size(1), pixels = x.size(2) * x.size(3);
  if (c == 1 || pixels == 1)
    return Tensor(x.data(), x.shape(), x.owner(), layout, x.device());  // the two orders are one
  const OnDeviceOf on(op, {{"x", x}});
  Tensor out = Tensor::empty(op, "x", x.shape(), layout);
  if (layout == Layout::channels_last)
    current_kernels().reorder.transpose(n, c, pixels, x.data(), out.data());
  else
    current_kernels().reorder.transpose(n, pixels, c, x.data(), out.data());
  return out;
}

}  // namespace convcore

// The sliding window of convolution and pooling along each axis, and the one formula for output sizes:
//
//   out = floor_or_ceil((in + pad_before + pad_after - dilation * (kernel - 1) - 1) / stride) + 1
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace convcore {

struct WindowAxis {
  int64_t kernel, stride = 1, pad_before = 0, pad_after = 0, dilation = 1;
  int64_t extent() const { return dilation * (kernel - 1) + 1; }  // input pixels from the first tap to the last
};

struct Window2d {
  WindowAxis h, w;
};

// Pixels of padding (before, after) that make `out = ceil(in / stride)`; the odd one goes after. At stride 1 this is
// torch's rule as well, with stride it is TensorFlow's.
std::array<int64_t, 2> same_padding(int64_t in, int64_t kernel, int64_t stride, int64_t dilation);

// Output size along one axis. Throws std::invalid_argument for sizes that make no sense and for a window larger than
// the padded input. With `ceil_mode` the last window may reach past the padded input, by less than a stride; it is
// dropped when it would start in the padding after the input (torch).
int64_t window_output_size(const char* op, const char* axis, int64_t in, const WindowAxis& window,
                           bool ceil_mode = false);

}  // namespace convcore

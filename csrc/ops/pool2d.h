// What the pooling ops share: the windows over an image, and their checks.
//
// 1-D pooling is the same on images of one row: where a function takes `windows`, one entry (W) means that x is
// (N, C, W_in) and y (N, C, W_out), two entries (H, W) mean (N, C, H_in, W_in) and (N, C, H_out, W_out).
#pragma once
#include "core/array.h"
#include "core/window.h"

namespace convcore {

using PoolWindows = std::vector<WindowAxis>;

struct Pool2dShape {  // every number a kernel needs; made only by infer_pool2d_shape
  int64_t planes;     // N * C
  int64_t h_in, w_in, h_out, w_out;
  Window2d window;
};

// `op` ("max_pool2d", "avg_pool1d", ...) is for the error messages. Every window of the result has at least one tap on
// the input: padding is at most half the window (torch's rule), and a dilated window that steps over the input throws.
Pool2dShape infer_pool2d_shape(const char* op, const Shape& x, const PoolWindows& windows, bool ceil_mode);

Shape pool2d_output_shape(const Shape& x, const Pool2dShape& s);

}  // namespace convcore

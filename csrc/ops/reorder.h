// reorder: the same images in the other order of memory.
//
// The shape stays (N, C, H, W); the memory goes from row-major to channels-last (N, H, W, C) or back.
#pragma once
#include "core/array.h"

namespace convcore {

// x itself when its memory has the wanted order already.
Tensor reorder(const char* op, const Tensor& x, Layout layout);

struct ReorderKernels {
  // out (batch, columns, rows) = in (batch, rows, columns) with the last two axes exchanged
  void (*transpose)(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out);
};
}  // namespace convcore

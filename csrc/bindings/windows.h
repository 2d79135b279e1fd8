// Pooling windows from Python: one tuple (kernel, stride, pad_before, pad_after, dilation) per spatial axis.
#pragma once
#include <pybind11/stl.h>

#include "ops/pool2d.h"

namespace convcore {

using WindowTuples = std::vector<std::array<int64_t, 5>>;

inline PoolWindows to_windows(const WindowTuples& tuples) {
  PoolWindows windows;
  for (const auto& t : tuples) windows.push_back({t[0], t[1], t[2], t[3], t[4]});
  return windows;
}

}  // namespace convcore

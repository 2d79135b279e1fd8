// The windows that the tests of max_pool2d and avg_pool2d share.
#pragma once
#include "helpers.h"
#include "ops/pool2d.h"

namespace convcore::test {

struct PoolCase {
  std::string name;
  Shape x;
  PoolWindows windows;  // {kernel, stride, pad_before, pad_after, dilation}
  bool ceil_mode = false;
};

inline std::vector<PoolCase> pool_cases() {
  const WindowAxis pair{2, 2, 0, 0, 1};
  std::vector<PoolCase> all = {
      {"one pixel", {1, 1, 1, 1}, {{1, 1, 0, 0, 1}, {1, 1, 0, 0, 1}}},
      {"empty batch", {0, 3, 5, 5}, {pair, pair}},
      {"no channels", {2, 0, 5, 5}, {pair, pair}},
      {"kernel 1, stride 2", {1, 2, 5, 35}, {{1, 2, 0, 0, 1}, {1, 2, 0, 0, 1}}},
      {"stride larger than the kernel", {2, 1, 9, 41}, {{2, 3, 0, 0, 1}, {2, 5, 0, 0, 1}}},
      {"stride larger than the kernel, ceil", {2, 1, 9, 41}, {{2, 4, 1, 1, 1}, {2, 3, 1, 1, 1}}, true},
      {"overlapping, stride 2", {2, 3, 9, 37}, {{3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}}},
      {"overlapping, stride 2, ceil", {2, 3, 8, 36}, {{3, 2, 0, 0, 1}, {3, 2, 0, 0, 1}}, true},
      {"stride 1", {2, 1, 5, 37}, {{3, 1, 1, 1, 1}, {5, 1, 2, 2, 1}}},
      {"uneven padding", {1, 2, 6, 21}, {{3, 1, 1, 0, 1}, {4, 2, 0, 2, 1}}, true},
      {"wide tiles", {1, 2, 7, 70}, {{3, 3, 0, 0, 1}, {17, 17, 0, 0, 1}}},
      {"window larger than the input", {2, 2, 2, 2}, {{3, 1, 1, 1, 1}, {4, 1, 2, 2, 1}}},
      {"window as large as the input", {2, 2, 5, 17}, {{5, 5, 0, 0, 1}, {17, 17, 0, 0, 1}}},
      {"rows of pairs, other columns", {1, 2, 6, 20}, {pair, {3, 3, 0, 0, 1}}},
      {"columns of pairs, other rows", {1, 2, 7, 35}, {{3, 2, 0, 0, 1}, pair}},
      {"1-D, stride 1", {3, 2, 37}, {{3, 1, 1, 1, 1}}},
      {"dilated", {2, 2, 9, 45}, {{3, 1, 1, 2, 2}, {3, 2, 2, 3, 3}}},
      {"dilated over a small input", {1, 1, 3, 3}, {{2, 1, 1, 1, 2}, {2, 1, 1, 1, 2}}},
  };
  for (int64_t w : {2, 3, 7, 8, 9, 10, 15, 16, 17, 18, 31, 32, 33, 34, 35, 65, 67}) {
    const std::string columns = std::to_string(w) + " columns";
    all.push_back({"2 x 2, " + columns, {2, 1, 5, w}, {pair, pair}});
    all.push_back({"2 x 2, ceil, " + columns, {1, 2, 5, w}, {pair, pair}, true});
    all.push_back({"pairs in 1-D, " + columns, {2, 3, w}, {pair}});
  }
  return all;
}

// Calls f(y index, x index) for every tap on the input, those of an output in row-major order.
template <typename F>
void for_each_tap(const Pool2dShape& s, F f) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  for (int64_t plane = 0; plane < s.planes; plane++)
    for (int64_t i = 0; i < s.h_out; i++)
      for (int64_t j = 0; j < s.w_out; j++)
        for (int64_t r = 0; r < wh.kernel; r++)
          for (int64_t q = 0; q < ww.kernel; q++) {
            const int64_t h = i * wh.stride - wh.pad_before + r * wh.dilation;
            const int64_t w = j * ww.stride - ww.pad_before + q * ww.dilation;
            if (h < 0 || h >= s.h_in || w < 0 || w >= s.w_in) continue;
            f(size_t((plane * s.h_out + i) * s.w_out + j), size_t((plane * s.h_in + h) * s.w_in + w));
          }
}

}  // namespace convcore::test

// Output sizes against counting the windows one by one.
#include "core/window.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::message_of;

// Windows that lie inside the padded input; with ceil_mode also one that sticks out at the end, unless it would start
// in the padding after the input.
int64_t count_windows(int64_t in, const WindowAxis& w, bool ceil_mode) {
  const int64_t padded = in + w.pad_before + w.pad_after;
  int64_t count = 0, start = 0;
  for (; start + w.extent() <= padded; start += w.stride) count++;
  const bool all_covered = start - w.stride + w.extent() == padded;
  if (ceil_mode && !all_covered && start < in + w.pad_before) count++;
  return count;
}

TEST_CASE("window_output_size counts the windows") {
  for (int64_t in = 1; in <= 9; in++)
    for (int64_t kernel = 1; kernel <= 4; kernel++)
      for (int64_t stride = 1; stride <= 5; stride++)
        for (int64_t dilation = 1; dilation <= 3; dilation++)
          for (int64_t before = 0; before <= kernel / 2; before++)
            for (int64_t after = 0; after <= kernel / 2; after++) {
              const WindowAxis w{kernel, stride, before, after, dilation};
              if (in + before + after < w.extent()) continue;
              REQUIRE(window_output_size("op", "H", in, w) == count_windows(in, w, false));
              REQUIRE(window_output_size("op", "H", in, w, true) == count_windows(in, w, true));
            }
}

TEST_CASE("window_output_size in ceil_mode, as torch has it") {
  CHECK(window_output_size("op", "H", 5, {2, 2}, false) == 2);
  CHECK(window_output_size("op", "H", 5, {2, 2}, true) == 3);
  CHECK(window_output_size("op", "H", 2, {1, 2, 1, 1}, true) == 2);  // a third would start in the padding
}

TEST_CASE("window_output_size refuses what makes no sense") {
  const auto message = [](int64_t in, const WindowAxis& w) {
    return message_of([&] { window_output_size("conv2d", "H", in, w); });
  };
  CHECK(message(4, {0}) == "conv2d: kernel_size along H is out of range: expected at least 1, got 0");
  CHECK(message(4, {1, 0}) == "conv2d: stride along H is out of range: expected at least 1, got 0");
  CHECK(message(4, {1, 1, -1}) == "conv2d: padding along H is out of range: expected at least 0, got -1");
  CHECK(message(4, {1, 1, 0, -2}) == "conv2d: padding along H is out of range: expected at least 0, got -2");
  CHECK(message(4, {1, 1, 0, 0, 0}) == "conv2d: dilation along H is out of range: expected at least 1, got 0");
  CHECK(message(4, {INT64_MAX}) ==
        "conv2d: kernel_size along H is out of range: expected at most 2147483647, got 9223372036854775807");
  CHECK(message(4, {3, 1, 1, 0, 3}) ==
        "conv2d: the window is larger than the padded input along H: expected dilation * (kernel_size - 1) + 1 <= 4 + "
        "1 + 0 (input and padding), got 3 * (3 - 1) + 1 = 7");
}

TEST_CASE("same_padding keeps ceil(in / stride) windows and no pixel too many") {
  for (int64_t in = 1; in <= 12; in++)
    for (int64_t kernel = 1; kernel <= 5; kernel++)
      for (int64_t stride = 1; stride <= 4; stride++)
        for (int64_t dilation = 1; dilation <= 3; dilation++) {
          const auto [before, after] = same_padding(in, kernel, stride, dilation);
          const WindowAxis w{kernel, stride, before, after, dilation};
          REQUIRE((after == before || after == before + 1));
          const int64_t out = (in + stride - 1) / stride;
          REQUIRE(window_output_size("op", "H", in, w) == out);
          if (after > 0) {  // one pixel less would lose a window
            REQUIRE(count_windows(in, {kernel, stride, before, after - 1, dilation}, false) == out - 1);
          }
        }
}

TEST_CASE("same_padding leaves senseless numbers to window_output_size") {
  const std::array<int64_t, 2> none{0, 0};
  CHECK(same_padding(4, 0, 1, 1) == none);
  CHECK(same_padding(4, 3, 0, 1) == none);
  CHECK(same_padding(4, 3, 1, -1) == none);
  CHECK(same_padding(4, 3, INT64_MAX, 1) == none);
  CHECK(same_padding(4, 3, 1, INT64_MAX) == none);
}

}  // namespace
}  // namespace convcore

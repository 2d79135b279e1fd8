// pad: against the naive loops of its contract, in both orders of memory, for the sanitizers.
#include "ops/pad.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;

// The pixel that padded pixel p is made from, counted from the image's first; -1: none.
int64_t source(PadMode mode, int64_t p, int64_t size) {
  if (mode == PadMode::replicate) return std::clamp<int64_t>(p, 0, size - 1);
  if (mode == PadMode::circular) return (p + size) % size;
  if (mode == PadMode::reflect && p < 0) return -p;
  if (mode == PadMode::reflect && p >= size) return 2 * size - 2 - p;
  return p >= 0 && p < size ? p : -1;
}

TEST_CASE("pad matches the naive loops") {
  for (PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::replicate, PadMode::circular})
    for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{0, 3, 5, 7}, Shape{1, 17, 4, 33}, Shape{2, 2, 16}})
      for (const PadParams& p :
           {PadParams{mode, 0.5f, 0, 0, 0, 0}, {mode, 0.5f, 2, 3, 1, 4}, {mode, 0.5f, 0, 1, 3, 0}}) {
        PadParams params = p;
        if (shape.size() == 3) params.top = params.bottom = 0;
        const PadShape s = infer_pad_shape("test", shape, params);
        Shape out = shape;
        out.back() = s.w_out;
        if (shape.size() == 4) out[2] = s.h_out;
        const Tensor x = random_tensor(shape, 1), dy = random_tensor(out, 2);
        std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count()));
        for (int64_t at = 0; at < dy.count(); at++) {
          const int64_t plane = at / (s.h_out * s.w_out), i = at / s.w_out % s.h_out, j = at % s.w_out;
          const int64_t h = source(mode, i - params.top, s.h_in), w = source(mode, j - params.left, s.w_in);
          const size_t from = size_t((plane * s.h_in + h) * s.w_in + w);
          y[size_t(at)].add(h < 0 || w < 0 ? params.value : x.data()[from]);
          if (h >= 0 && w >= 0) dx[from].add(dy.data()[at]);
        }
        for (Layout layout : {Layout::row_major, Layout::channels_last}) {
          if (layout == Layout::channels_last && shape.size() == 3) continue;
          check_close(pad_forward(reorder("test", x, layout), params), out, y);
          check_close(pad_backward(reorder("test", dy, layout), shape, params), shape, dx);
        }
      }
}

TEST_CASE("pad refuses more than the image has") {
  const Tensor x = random_tensor({1, 1, 3, 4}, 1);
  CHECK(message_of([&] { pad_forward(x, {PadMode::reflect, 0, 3, 0, 0, 0}); }) ==
        "pad: pad along H is too large for mode 'reflect': expected at most 2 (the input has size 3), got 3");
  CHECK(message_of([&] { pad_forward(x, {PadMode::circular, 0, 0, 0, 5, 0}); }) != "");
}

}  // namespace
}  // namespace convcore

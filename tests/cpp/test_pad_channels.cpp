// pad_channels: against the naive loops of its contract, in both orders of memory, for the sanitizers.
#include "ops/pad_channels.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::random_tensor;

TEST_CASE("pad_channels matches the naive loops") {
  for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{0, 3, 5, 7}, Shape{2, 0, 4, 4}, Shape{1, 16, 8, 9}})
    for (const PadChannelsParams& p : {PadChannelsParams{0, 0, 1, 1}, {2, 1, 2, 3}, {8, 8, 2, 2}, {0, 3, 9, 1}}) {
      CAPTURE(to_string(shape));
      const int64_t c_out = p.before + shape[1] + p.after;
      const int64_t h_out = (shape[2] + p.stride_h - 1) / p.stride_h, w_out = (shape[3] + p.stride_w - 1) / p.stride_w;
      const Tensor x = random_tensor(shape, 1), dy = random_tensor({shape[0], c_out, h_out, w_out}, 2);
      for (Layout layout : {Layout::row_major, Layout::channels_last}) {
        const Tensor y = reorder("test", pad_channels_forward(reorder("test", x, layout), p), Layout::row_major);
        const Tensor dx =
            reorder("test", pad_channels_backward(reorder("test", dy, layout), shape, p), Layout::row_major);
        int64_t wrong = 0;
        for (int64_t at = 0; at < y.count(); at++) {
          const int64_t n = at / (c_out * h_out * w_out), c = at / (h_out * w_out) % c_out - p.before;
          const int64_t h = at / w_out % h_out * p.stride_h, w = at % w_out * p.stride_w;
          const bool copied = c >= 0 && c < shape[1];
          const int64_t from = ((n * shape[1] + c) * shape[2] + h) * shape[3] + w;
          wrong += y.data()[at] != (copied ? x.data()[from] : 0);
        }
        for (int64_t at = 0; at < dx.count(); at++) {
          const int64_t n = at / (shape[1] * shape[2] * shape[3]), c = at / (shape[2] * shape[3]) % shape[1];
          const int64_t h = at / shape[3] % shape[2], w = at % shape[3];
          const bool kept = h % p.stride_h == 0 && w % p.stride_w == 0;
          const int64_t from = ((n * c_out + c + p.before) * h_out + h / p.stride_h) * w_out + w / p.stride_w;
          wrong += dx.data()[at] != (kept ? dy.data()[from] : 0);
        }
        CHECK(wrong == 0);
      }
    }
}

}  // namespace
}  // namespace convcore

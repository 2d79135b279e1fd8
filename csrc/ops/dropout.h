// dropout: zeroes each element with probability p, and scales the others so that the mean stays; and its gradient.
//
//   y[i] = x[i] * keep[i] / (1 - p)        dx[i] = dy[i] * keep[i] / (1 - p)
//
// keep[i] is 0 with probability p, else 1: a pure function of the key and the position i in row-major order, so the
// backward makes the same mask again instead of storing it. x, y any shape; float32. p = 1 gives zeros. A dropped
// element is x times 0: NaN and infinity stay NaN, as in torch.
#pragma once
#include "core/array.h"
#include "core/random.h"
#include "ops/subsampling2d.h"

namespace convcore {

struct DropoutParams {
  double p;
  RandomKey key;
};

void check_dropout(const char* op, double p);
Tensor dropout_forward(const Tensor& x, const DropoutParams& params);
// dropout2d: the same for whole channels. x (N, C, ...): element n * C + c of the mask is that of channel c of image n.
Tensor dropout2d_forward(const Tensor& x, const DropoutParams& params);
Tensor dropout2d_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params);

// The shape of x is that of the forward's input.
Tensor dropout_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params);

// An element is dropped where the upper 24 of its 32 random bits, as an integer, are less than `threshold`.
struct DropoutMask {
  int32_t threshold;  // 0 to 2^24
  float scale;        // of what is kept
  int64_t first = 0;  // position of the first element
};

struct DropoutKernels {
  // y = x times the mask, or the mask itself where x is null; y may be x.
  void (*apply)(int64_t count, const RandomKey* key, const DropoutMask&, const float* x, float* y);
  // y = x * mask[n, c]; y may be x.
  void (*apply_to_channels)(const ChannelsShape&, const float* x, const float* mask, float* y);
};

DropoutMask dropout_mask(double p);  // `first` is 0

}  // namespace convcore

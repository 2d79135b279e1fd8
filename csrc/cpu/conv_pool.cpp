// conv2d_relu_max_pool2d: the choice between its two kernels (conv2d/pooled.h).
#include "ops/conv_pool.h"

#include "cpu/conv2d/pooled.h"

namespace convcore::cpu::CONVCORE_ISA {

// A kernel row of one input channel would leave half the lanes of the other kernel's gradients empty, and pooled pixels
// fill three quarters of them. (Both orders of memory of one channel are the same.)
static bool one_wide_channel(const ConvPoolShape& s) {
  const int64_t lanes = (s.w_out + kLanes - 1) / kLanes * kLanes;
  return s.c_in == 1 && 2 * s.kw <= kLanes && 4 * s.w_out >= 3 * lanes;
}

static const ConvPoolKernels& kernels_for(const ConvPoolShape& s) {
  static const ConvPoolKernels pixels = pooled_pixels_kernels(), channels = pooled_channels_kernels();
  return conv_pool_x_layout(s) == Layout::row_major || one_wide_channel(s) ? pixels : channels;
}

static int64_t packed_floats(const ConvPoolShape& s) { return kernels_for(s).packed_floats(s); }
static void pack(const ConvPoolShape& s, const float* w, const float* b, float* packed) {
  kernels_for(s).pack(s, w, b, packed);
}
static int64_t mask_bytes(const ConvPoolShape& s) { return kernels_for(s).mask_bytes(s); }
static int64_t workspace_floats(const ConvPoolShape& s) { return kernels_for(s).workspace_floats(s); }
static void forward(const ConvPoolShape& s, const float* x, const float* packed, float* y, void* mask,
                    float* workspace) {
  kernels_for(s).forward(s, x, packed, y, mask, workspace);
}
static int64_t gradient_floats(const ConvPoolShape& s) { return kernels_for(s).gradient_floats(s); }
static void backward(const ConvPoolShape& s, const float* dy, const void* mask, const float* x, const float* packed,
                     float* dx, float* gradient, float* workspace) {
  kernels_for(s).backward(s, dy, mask, x, packed, dx, gradient, workspace);
}
static void sum_gradients(const ConvPoolShape& s, const float* const* gradients, int64_t count, float* dw, float* db) {
  kernels_for(s).sum_gradients(s, gradients, count, dw, db);
}

ConvPoolKernels conv_pool_kernels();
ConvPoolKernels conv_pool_kernels() {
  return {packed_floats, pack, mask_bytes, workspace_floats, forward, gradient_floats, backward, sum_gradients};
}

}  // namespace convcore::cpu::CONVCORE_ISA

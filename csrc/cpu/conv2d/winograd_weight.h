// Weight gradients by Winograd: F(3x3, 4x4) of 3x3 filters, F(5x5, 2x2) of 5x5 filters.
#pragma once
#include "ops/conv2d.h"

namespace convcore::cpu::CONVCORE_ISA {

// dw (OIHW) from dy (N, H_out, W_out, C_out) and x (N, H_in, W_in, C_in), both channels last, for kernel 3x3 or 5x5,
// stride 1, dilation 1, groups 1 and any padding. The same bits at any number of threads; largest error about 7e-6 of
// the RMS of dw on normal data.
//
// Cost: 36 multiply-adds per tile of dy (4x4, with 5x5 filters 2x2) and pair of channels where the definition has 144
// (100), and transforms of about 220 vector operations per tile and pair of channel vectors. Channels are padded to
// whole vectors, tiles at the edge to whole tiles. Pays from about 12 channels on either side.
void winograd_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw);

// The same for some images, at least one, of a shard at a time, on the calling thread, into a part of weight_shards.h.
// `sums` (null where winograd_weight_sum_floats is 0: many channels) keeps the sums of the shard from call to call, in
// the transformed space: only the `last` call transforms them back and writes the part. Without it every call does,
// and the `first` overwrites the part.
int64_t winograd_weight_sum_floats(const Conv2dShape&);
void winograd_weight_part(const Conv2dShape&, const float* dy, const float* x, float* sums, bool first, bool last,
                          float* part);

}  // namespace convcore::cpu::CONVCORE_ISA

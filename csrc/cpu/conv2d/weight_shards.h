// What the weight gradients on channels-last data share: partial gradients of shards, and their sum.
#pragma once
#include <cstdint>

namespace convcore::cpu::CONVCORE_ISA {

// dw[k][row] = sum over shards, in order, of parts[shard][row][k], for row < rows and k < c_out.
//
// A partial gradient has the output channels innermost, where the kernels have their lanes, c_out_padded floats
// (a multiple of kLanes) from row to row; a row is an (input channel, tap), so that dw is OIHW.
void sum_weight_shards(const float* parts, int64_t shards, int64_t rows, int64_t c_out, int64_t c_out_padded,
                       float* dw);

}  // namespace convcore::cpu::CONVCORE_ISA

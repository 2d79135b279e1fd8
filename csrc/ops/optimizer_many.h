// The step of an optimizer for many parameters by one kernel: entries of the CUDA table, null on the CPU. The rules are
// those of optimizer.h, the factors are read from device memory, so that a recorded graph stays right when they change.
#pragma once
#include "ops/optimizer.h"

namespace convcore {

// One parameter. A table of them, in device memory, is what the kernels get.
struct OptimizerPiece {
  int64_t count;
  float* param;
  // The gradient: `grad`; or the sum over `splits` parts, each (c_out, taps, c_in), in order. Then it is also written
  // to `grad`, in the parameter's own order, unless that is null.
  float* grad;
  const float* parts;  // or null
  int64_t splits;
  float* state[3];  // as the rule takes them, in the order of optimizer.h; null: not wanted
  // The parameter is a filter (c_out, c_in, taps): its copies (c_out, taps, c_in) and (c_in, taps, c_out) are written,
  // too, unless null. Else taps is 0.
  int64_t c_out, c_in, taps;
  float *packed, *turned;
  int64_t factors;      // which of the factors
  int64_t first_block;  // set by number_blocks
};

// Elements that one block takes; fewer where it sums parts, too.
constexpr int64_t kPieceElements = 1024, kPartElements = 64;
inline int64_t elements_of_block(const OptimizerPiece& piece) { return piece.parts ? kPartElements : kPieceElements; }

// Numbers the blocks of the pieces (in host memory, before they are copied to the device); returns how many there are.
inline int64_t number_blocks(OptimizerPiece* pieces, int64_t count) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < count; i++) {
    const int64_t size = elements_of_block(pieces[i]);
    pieces[i].first_block = blocks;
    blocks += (pieces[i].count + size - 1) / size;
  }
  return blocks;
}

struct OptimizerManyKernels {  // pieces and factors in device memory
  void (*sgd)(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const SgdFactors* factors);
  void (*adam)(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const AdamFactors* factors);
  void (*rmsprop)(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const RmspropFactors* factors);
  void (*adagrad)(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const AdagradFactors* factors);
  // The copies of the filters alone: for weights that were set from outside.
  void (*pack)(const OptimizerPiece* pieces, int64_t count, int64_t blocks);
};

}  // namespace convcore

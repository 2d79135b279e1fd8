// The step of an optimizer for many parameters by one kernel, which also adds up the parts of the gradients and writes
// the filters in the orders that the convolutions read. Contract: ops/optimizer_many.h.
//
// Grid: the blocks of all pieces, one after the other. Block: 1024 elements of one piece; with parts 64 elements, which
// four slices of 64 threads sum over a quarter of the parts each: neighbouring threads read neighbouring elements of a
// part. Bytes: parts, parameter and states once.
#include "ops/optimizer_many.h"

#include "cuda/device.cuh"
#include "cuda/optimizer_rules.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256, kSlices = int(kThreads / kPartElements);

// The last piece that begins at `block` or before it.
CONVCORE_DEVICE const OptimizerPiece& piece_of(const OptimizerPiece* pieces, int64_t count, int64_t block) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (pieces[middle].first_block <= block ? low : high) = middle;
  }
  return pieces[low];
}

// From an element of a part (c_out, taps, c_in) to that of the parameter (c_out, c_in, taps).
CONVCORE_DEVICE int64_t of_part(const OptimizerPiece& p, int64_t at) {
  if (p.taps == 0) return at;
  const int64_t c = at % p.c_in, t = at / p.c_in % p.taps, k = at / p.c_in / p.taps;
  return (k * p.c_in + c) * p.taps + t;
}

CONVCORE_DEVICE void write_copies(const OptimizerPiece& p, int64_t at, float value) {
  if (p.taps == 0) return;
  const int64_t t = at % p.taps, c = at / p.taps % p.c_in, k = at / p.taps / p.c_in;
  if (p.packed) p.packed[(k * p.taps + t) * p.c_in + c] = value;
  if (p.turned) p.turned[(c * p.taps + t) * p.c_out + k] = value;
}

// Sum of an element over a slice of the parts, in order.
CONVCORE_DEVICE float sum_slice(const OptimizerPiece& p, int64_t at, int64_t slice) {
  const int64_t begin = p.splits * slice / kSlices, end = p.splits * (slice + 1) / kSlices;
  float sum = 0;
#pragma unroll 8
  for (int64_t split = begin; split < end; split++) sum += p.parts[split * p.count + at];
  return sum;
}

// kStates: of the rule, and rule_of(piece) is the rule for it.
template <int kStates, typename RuleOf>
CONVCORE_DEVICE void update(const OptimizerPiece& p, int64_t at, float grad, const RuleOf& rule) {
  float in[2 + kStates] = {p.param[at], grad}, out[1 + kStates];
  CONVCORE_UNROLL
  for (int i = 0; i < kStates; i++) in[2 + i] = p.state[i] ? p.state[i][at] : 0.0f;
  rule(at, in, out);
  p.param[at] = out[0];
  CONVCORE_UNROLL
  for (int i = 0; i < kStates; i++)
    if (p.state[i]) p.state[i][at] = out[1 + i];
  write_copies(p, at, out[0]);
}

template <int kStates, typename RuleOf>
CONVCORE_KERNEL(kThreads)
step_of_pieces(const OptimizerPiece* pieces, int64_t count, RuleOf rule_of) {
  SharedMemory shared;
  float* sums = shared.array<float>(kThreads);
  const OptimizerPiece p = piece_of(pieces, count, blockIdx.x);
  const auto rule = rule_of(p);
  const int64_t block = int64_t(blockIdx.x) - p.first_block;
  const auto thread = int64_t(threadIdx.x);
  if (!p.parts) {
    for (int64_t i = thread; i < kPieceElements; i += kThreads) {
      const int64_t at = block * kPieceElements + i;
      if (at < p.count) update<kStates>(p, at, p.grad[at], rule);
    }
    return;
  }
  const int64_t at = block * kPartElements + thread % kPartElements;
  sums[thread] = at < p.count ? sum_slice(p, at, thread / kPartElements) : 0.0f;
  __syncthreads();
  if (thread >= kPartElements || at >= p.count) return;
  float grad = sums[thread];
  for (int slice = 1; slice < kSlices; slice++) grad += sums[slice * kPartElements + thread];
  const int64_t to = of_part(p, at);
  if (p.grad) p.grad[to] = grad;
  update<kStates>(p, to, grad, rule);
}

CONVCORE_KERNEL(kThreads)
pack_pieces(const OptimizerPiece* pieces, int64_t count) {
  const OptimizerPiece p = piece_of(pieces, count, blockIdx.x);
  const int64_t size = p.parts ? kPartElements : kPieceElements, first = (int64_t(blockIdx.x) - p.first_block) * size;
  for (int64_t i = int(threadIdx.x); i < size && first + i < p.count; i += kThreads)
    write_copies(p, first + i, p.param[first + i]);
}

template <int kStates, typename RuleOf>
void step(const char* name, const OptimizerPiece* pieces, int64_t count, int64_t blocks, RuleOf rule_of) {
  if (blocks == 0) return;
  launch(name, step_of_pieces<kStates, RuleOf>, dim3(unsigned(blocks)), kThreads, shared_bytes<float>(kThreads), pieces,
         count, rule_of);
}

struct SgdOf {
  const SgdFactors* factors;
  __device__ Sgd operator()(const OptimizerPiece& p) const { return {factors + p.factors, p.state[0] != nullptr}; }
};
struct AdamOf {
  const AdamFactors* factors;
  __device__ Adam operator()(const OptimizerPiece& p) const { return {factors + p.factors}; }
};
struct RmspropOf {
  const RmspropFactors* factors;
  __device__ Rmsprop operator()(const OptimizerPiece& p) const {
    return {factors + p.factors, p.state[1] != nullptr, p.state[2] != nullptr};
  }
};
struct AdagradOf {
  const AdagradFactors* factors;
  __device__ Adagrad operator()(const OptimizerPiece& p) const { return {factors + p.factors}; }
};

void sgd(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const SgdFactors* factors) {
  step<1>("sgd", pieces, count, blocks, SgdOf{factors});
}
void adam(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const AdamFactors* factors) {
  step<2>("adam", pieces, count, blocks, AdamOf{factors});
}
void rmsprop(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const RmspropFactors* factors) {
  step<3>("rmsprop", pieces, count, blocks, RmspropOf{factors});
}
void adagrad(const OptimizerPiece* pieces, int64_t count, int64_t blocks, const AdagradFactors* factors) {
  step<1>("adagrad", pieces, count, blocks, AdagradOf{factors});
}
void pack(const OptimizerPiece* pieces, int64_t count, int64_t blocks) {
  if (blocks == 0) return;
  launch("filters", pack_pieces, dim3(unsigned(blocks)), kThreads, 0, pieces, count);
}

}  // namespace

OptimizerManyKernels optimizer_many_kernels() { return {sgd, adam, rmsprop, adagrad, pack}; }

}  // namespace convcore::cuda

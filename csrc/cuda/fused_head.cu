// The end of a classifying network, forwards and backwards, by one kernel each. Contract: ops/fused_conv.h.
#include "cuda/cross_entropy.cuh"
#include "cuda/fused.cuh"
#include "cuda/last_block.cuh"
#include "cuda/table.h"
#include "ops/fused_conv.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 128;

// Lanes for neighbouring columns, so that the rest of the threads can share the rows.
CONVCORE_DEVICE int lanes_for(int64_t columns) {
  int lanes = 1;
  while (lanes < columns && lanes < kThreads) lanes *= 2;
  return lanes;
}

// done(column, sum of term(row, column) over all rows): threads add every n-th row, and those of a column are added in
// order. `sums`: kThreads shared numbers.
template <typename Term, typename Done>
CONVCORE_DEVICE void sum_columns(int64_t rows, int64_t columns, float* sums, const Term& term, const Done& done) {
  const int lanes = lanes_for(columns), thread = int(threadIdx.x);
  for (int64_t first = 0; first < columns; first += lanes) {
    const int64_t column = first + thread % lanes;
    float sum = 0;
    if (column < columns)
      for (int64_t row = thread / lanes; row < rows; row += kThreads / lanes) sum += term(row, column);
    sums[thread] = sum;
    __syncthreads();
    if (thread < lanes && column < columns) {
      for (int other = thread + lanes; other < kThreads; other += lanes) sum += sums[other];
      done(column, sum);
    }
    __syncthreads();  // before the sums are overwritten
  }
}

// ---- forward: a block per image -------------------------------------------------------------------------------------

struct HeadOutputs {
  float *features, *logits, *loss, *right, *dlogits, *dfeatures;
};

CONVCORE_KERNEL(kThreads)
head(FusedHeadShape s, const __grid_constant__ Operand in, const float* w, const float* b, const int64_t* labels,
     CrossEntropyParams params, const float* scale, HeadOutputs out) {
  SharedMemory shared;
  float* sums = shared.array<float>(kThreads);
  float* mean = shared.array<float>(int(s.c));
  float* logits = shared.array<float>(int(s.classes));
  float* gradient = shared.array<float>(int(s.classes));
  const int64_t n = blockIdx.x;
  const float share = 1.0f / float(s.pixels);
  sum_columns(
      s.pixels, s.c, sums,
      [&](int64_t i, int64_t c) {
        const int64_t pixel = n * s.pixels + i;
        float v[1] = {in.data[pixel * s.c + c]};
        if (in.kind == OperandKind::affine) {
          const Transform<1, kAffine | kResidual> transform(in, int(c));
          float other[1];
          transform.fetch(int(pixel), other);
          transform.apply(other, v);
        }
        if (in.stored) in.stored[pixel * s.c + c] = v[0];
        return v[0];
      },
      [&](int64_t c, float sum) { out.features[n * s.c + c] = mean[c] = sum * share; });
  __syncthreads();
  for (int64_t k = int(threadIdx.x) / kWarp; k < s.classes; k += kThreads / kWarp) {
    float sum = 0;
    for (int64_t c = lane(); c < s.c; c += kWarp) sum = fmaf(w[k * s.c + c], mean[c], sum);
    sum = warp_sum(sum) + (b ? b[k] : 0.0f);
    if (lane() == 0) out.logits[n * s.classes + k] = logits[k] = sum;
  }
  __syncthreads();
  if (int(threadIdx.x) < kWarp) {
    const float loss = cross_entropy_row(s.classes, 1, params, *scale, logits, labels[n], gradient);
    if (lane() == 0) out.loss[n] = loss;
  } else if (int(threadIdx.x) == kWarp) {
    const int64_t label = labels[n];
    out.right[n] = label != params.ignore_index && arg_max(logits, s.classes) == label ? 1.0f : 0.0f;
  }
  __syncthreads();
  for (int64_t k = int(threadIdx.x); k < s.classes; k += kThreads) out.dlogits[n * s.classes + k] = gradient[k];
  for (int64_t c = int(threadIdx.x); c < s.c; c += kThreads) {
    float sum = 0;
    for (int64_t k = 0; k < s.classes; k++) sum = fmaf(gradient[k], w[k * s.c + c], sum);
    out.dfeatures[n * s.c + c] = sum;
  }
}

// ---- backward: blocks of pixels, then a block per class -------------------------------------------------------------

constexpr int kRows = 256;  // pixels of a block

struct HeadBackward {
  FusedHeadShape s;
  const float *dlogits, *dfeatures, *features;
  bool masked;
  const float *y, *x;
  BatchNormAffine affine;
  BatchNormBackwardFinish finish;
  float* parts;
  unsigned* arrivals;
  int64_t row_blocks, column_blocks;
  float *dz, *dw, *db;
};

// dz of kRows pixels, kWarp channels; a warp reads neighbouring channels.
CONVCORE_DEVICE void pixels_backward(const HeadBackward& p, int64_t block, float* sums) {
  const int64_t row0 = block / p.column_blocks * kRows, c = block % p.column_blocks * kWarp + lane();
  const int64_t rows = p.s.n * p.s.pixels, end = row0 + kRows < rows ? row0 + kRows : rows;
  const float share = 1.0f / float(p.s.pixels);
  float a = 0, b = 0;
  for (int64_t row = row0 + int(threadIdx.x) / kWarp; c < p.s.c && row < end; row += kThreads / kWarp) {
    const int64_t at = row * p.s.c + c;
    const float d = p.x ? p.x[at] - p.affine.mean[c] : 0.0f;
    float value = p.dfeatures[row / p.s.pixels * p.s.c + c] * share;
    if (p.masked && !((p.y ? p.y[at] : fmaf(d, p.affine.scale[c], p.affine.bias[c])) > 0)) value = 0;
    p.dz[at] = value;
    a += value, b = fmaf(value, d, b);
  }
  if (!p.x) return;
  sums[2 * threadIdx.x] = a, sums[2 * threadIdx.x + 1] = b;
  __syncthreads();
  if (int(threadIdx.x) >= kWarp || c >= 2 * channel_pairs(p.s.c)) return;
  for (int other = int(threadIdx.x) + kWarp; other < kThreads; other += kWarp)
    a += sums[2 * other], b += sums[2 * other + 1];
  float* part = part_of(p.parts, block / p.column_blocks, p.s.c, c);
  part[0] = a, part[1] = b;
}

CONVCORE_KERNEL(kThreads)
head_backward(const __grid_constant__ HeadBackward p) {
  SharedMemory shared;
  float* sums = shared.array<float>(2 * kThreads);
  double* totals = shared.array<double>(4 * kThreads);
  int* flag = shared.array<int>(1);
  const int64_t pixel_blocks = p.row_blocks * p.column_blocks;
  if (blockIdx.x < pixel_blocks) {
    pixels_backward(p, blockIdx.x, sums);
    if (p.x && last_to_arrive(p.arrivals, unsigned(pixel_blocks), flag))
      add_parts<kThreads>(p.parts, p.row_blocks, p.s.c, totals, p.finish);
    return;
  }
  const int64_t k = int64_t(blockIdx.x) - pixel_blocks;
  const auto of = [&](int64_t n) { return p.dlogits[n * p.s.classes + k]; };
  sum_columns(
      p.s.n, p.s.c, sums, [&](int64_t n, int64_t c) { return of(n) * p.features[n * p.s.c + c]; },
      [&](int64_t c, float sum) { p.dw[k * p.s.c + c] = sum; });
  if (p.db)
    sum_columns(p.s.n, 1, sums, [&](int64_t n, int64_t) { return of(n); }, [&](int64_t, float sum) { p.db[k] = sum; });
}

// ---- the table ------------------------------------------------------------------------------------------------------

void forward(const FusedHeadShape& s, const FusedInput& in, const float* w, const float* b, const int64_t* labels,
             const CrossEntropyParams& params, const float* scale, float* features, float* logits, float* loss,
             float* right, float* dlogits, float* dfeatures) {
  if (s.n == 0) return;
  Operand operand = input_operand(in, 1, s.pixels, s.c);
  operand.stored = in.stored;
  const size_t bytes = shared_bytes<float>(kThreads) + shared_bytes<float>(s.c) + 2 * shared_bytes<float>(s.classes);
  launch("head", head, dim3(unsigned(s.n)), kThreads, bytes, s, operand, w, b, labels, params, scale,
         HeadOutputs{features, logits, loss, right, dlogits, dfeatures});
}

void backward(const FusedHeadShape& s, const float* dlogits, const float* dfeatures, const float* features,
              const FusedGradientSums& sums, float* dz, float* dw, float* db) {
  const int64_t row_blocks = blocks_for(s.n * s.pixels, kRows), column_blocks = blocks_for(s.c, kWarp);
  HeadBackward p{s,
                 dlogits,
                 dfeatures,
                 features,
                 sums.relu,
                 sums.y,
                 sums.x,
                 sums.affine,
                 backward_finish_of(sums, s.n * s.pixels),
                 nullptr,
                 sums.arrivals,
                 row_blocks,
                 column_blocks,
                 dz,
                 dw,
                 db};
  if (sums.x) p.parts = workspace(kSumsWorkspace, row_blocks * channel_pairs(s.c) * 4);
  const size_t bytes = shared_bytes<float>(2 * kThreads) + shared_bytes<double>(4 * kThreads) + shared_bytes<int>(1);
  launch("head backward", head_backward, dim3(unsigned(row_blocks * column_blocks + s.classes)), kThreads, bytes, p);
}

}  // namespace

FusedHeadKernels fused_head_kernels() { return {forward, backward}; }

}  // namespace convcore::cuda

// Sums over the rows of a matrix (rows, c), one per column: the sums of batch norm, and the gradients of biases.
//
// Two kernels. The first cuts the rows into pieces, by the shape alone, one block each, and leaves the sums of each
// piece; the second adds the pieces up in order. So the bits are the same every time. A thread adds at most kFloatTerms
// numbers as float and goes on in double.
//
// Grid: x over pieces, y over groups of 32 columns. Block: 32 columns x 8 rows at a time, so that a warp reads 128
// bytes in a row. Bytes: the matrix once.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kSumColumns = 32, kSumRows = 8, kSumThreads = kSumColumns * kSumRows;
constexpr int kFloatTerms = 64;
constexpr int64_t kMostPieces = 256, kRowsPerPiece = 512;  // at most as many pieces; at least as many rows in each

inline int64_t sum_pieces(int64_t rows) {
  const int64_t pieces = (rows + kRowsPerPiece - 1) / kRowsPerPiece;
  return pieces < 1 ? 1 : pieces > kMostPieces ? kMostPieces : pieces;
}

namespace detail {

// terms(row, column, &a, &b) gives what to add. parts (pieces, 2, c).
template <typename Terms>
CONVCORE_KERNEL(kSumThreads)
sum_pieces_of_rows(int64_t rows, int64_t c, Terms terms, double* parts) {
  SharedMemory shared;
  double* sums = shared.array<double>(2 * kSumThreads);
  const int64_t column = int64_t(blockIdx.y) * kSumColumns + int(threadIdx.x) % kSumColumns;
  const int64_t begin = rows * blockIdx.x / gridDim.x, end = rows * (int64_t(blockIdx.x) + 1) / gridDim.x;
  double total_a = 0, total_b = 0;
  if (column < c) {
    float a = 0, b = 0;
    int count = 0;
    for (int64_t row = begin + int(threadIdx.x) / kSumColumns; row < end; row += kSumRows) {
      float x, y;
      terms(row, column, &x, &y);
      a += x, b += y;
      if (++count == kFloatTerms) total_a += double(a), total_b += double(b), a = b = 0, count = 0;
    }
    total_a += double(a), total_b += double(b);
  }
  sums[threadIdx.x] = total_a, sums[kSumThreads + threadIdx.x] = total_b;
  __syncthreads();
  if (threadIdx.x >= kSumColumns || column >= c) return;
  for (int row = 1; row < kSumRows; row++) {
    total_a += sums[row * kSumColumns + int(threadIdx.x)];
    total_b += sums[kSumThreads + row * kSumColumns + int(threadIdx.x)];
  }
  parts[(2 * int64_t(blockIdx.x)) * c + column] = total_a;
  parts[(2 * int64_t(blockIdx.x) + 1) * c + column] = total_b;
}

// done(column, a, b) with the sums of all pieces.
template <typename Done>
CONVCORE_KERNEL(kSumThreads)
add_pieces(int64_t pieces, int64_t c, const double* parts, Done done) {
  const int64_t column = int64_t(blockIdx.x) * kSumThreads + threadIdx.x;
  if (column >= c) return;
  double a = 0, b = 0;
  for (int64_t piece = 0; piece < pieces; piece++) {
    a += parts[(2 * piece) * c + column];
    b += parts[(2 * piece + 1) * c + column];
  }
  done(column, a, b);
}

}  // namespace detail

template <typename Terms, typename Done>
void channel_sums(const char* name, int64_t rows, int64_t c, Terms terms, Done done) {
  if (c == 0) return;
  const int64_t pieces = sum_pieces(rows);
  auto* parts = reinterpret_cast<double*>(workspace(kSumsWorkspace, 4 * pieces * c));
  launch(name, detail::sum_pieces_of_rows<Terms>, dim3(unsigned(pieces), blocks_for(c, kSumColumns)), kSumThreads,
         shared_bytes<double>(2 * kSumThreads), rows, c, terms, parts);
  launch(name, detail::add_pieces<Done>, dim3(blocks_for(c, kSumThreads)), kSumThreads, 0, pieces, c,
         static_cast<const double*>(parts), done);
}

// The sums of the columns themselves.
struct Column {
  const float* x;
  int64_t c;
  __device__ void operator()(int64_t row, int64_t column, float* a, float* b) const {
    *a = x[row * c + column], *b = 0;
  }
};
struct StoreSum {
  float* sum;
  __device__ void operator()(int64_t column, double a, double) const { sum[column] = float(a); }
};

}  // namespace convcore::cuda

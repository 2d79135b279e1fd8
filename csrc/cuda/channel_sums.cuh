// Sums over the rows of a matrix (rows, c), one per column: the sums of batch norm, and the gradients of biases.
//
// Two kernels. The first cuts the rows into pieces, by the shape alone, one block each, and leaves the sums of each
// piece; the second adds the pieces up in order. So the bits are the same every time. A thread adds at most kFloatTerms
// numbers as float and goes on in double.
//
// Grid: x over groups of columns, y over pieces. Block: 32 columns x 8 rows at a time, so that a warp reads 128 bytes
// in a row; where there are fewer columns, fewer and more rows. A thread reads kRowsAtOnce rows before it adds them: a
// multiprocessor then has 32 KB under way, and the memory is the bound. Bytes: the matrix once.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kSumColumns = 32, kSumRows = 8, kSumThreads = kSumColumns * kSumRows;
constexpr int kFloatTerms = 64, kRowsAtOnce = 4;
constexpr int64_t kSumBlocks = 132 * 8;  // fill a large GPU
constexpr int64_t kRowsPerPiece = 128;   // at least

inline int64_t sum_pieces(int64_t rows, int64_t groups) {
  const int64_t pieces = (rows + kRowsPerPiece - 1) / kRowsPerPiece, most = (kSumBlocks + groups - 1) / groups;
  return pieces < 1 ? 1 : pieces > most ? most : pieces;
}

// Columns of a block: a power of two.
inline int sum_columns(int64_t c) {
  int columns = kSumColumns;
  while (columns / 2 >= c && columns > 1) columns /= 2;
  return columns;
}

namespace detail {

// The sum of the threads of each column, in order of their rows, in the threads of the first row. `sums`: shared,
// kSumThreads numbers.
CONVCORE_DEVICE double sum_of_column(double value, int columns, double* sums) {
  const int thread = int(threadIdx.x);
  sums[thread] = value;
  __syncthreads();
  if (thread < columns)
    for (int other = thread + columns; other < kSumThreads; other += columns) value += sums[other];
  __syncthreads();  // before the next sum is made in the same memory
  return value;
}

// terms(row, column, &a, &b) gives what to add. parts (pieces, 2, c).
template <typename Terms>
CONVCORE_KERNEL(kSumThreads)
sum_pieces_of_rows(int64_t rows, int64_t c, int columns, Terms terms, double* parts) {
  SharedMemory shared;
  double* sums = shared.array<double>(kSumThreads);
  const int64_t column = int64_t(blockIdx.x) * columns + int(threadIdx.x) % columns;
  const int64_t begin = rows * blockIdx.y / gridDim.y, end = rows * (int64_t(blockIdx.y) + 1) / gridDim.y;
  const int row_step = kSumThreads / columns;
  double total_a = 0, total_b = 0;
  if (column < c) {
    float a = 0, b = 0;
    int count = 0;
    int64_t row = begin + int(threadIdx.x) / columns;
    for (; row + (kRowsAtOnce - 1) * row_step < end; row += kRowsAtOnce * row_step) {
      float x[kRowsAtOnce], y[kRowsAtOnce];
      CONVCORE_UNROLL
      for (int r = 0; r < kRowsAtOnce; r++) terms(row + r * row_step, column, &x[r], &y[r]);
      CONVCORE_UNROLL
      for (int r = 0; r < kRowsAtOnce; r++) a += x[r], b += y[r];
      count += kRowsAtOnce;
      if (count >= kFloatTerms) total_a += double(a), total_b += double(b), a = b = 0, count = 0;
    }
    for (; row < end; row += row_step) {
      float x, y;
      terms(row, column, &x, &y);
      a += x, b += y;
    }
    total_a += double(a), total_b += double(b);
  }
  total_a = sum_of_column(total_a, columns, sums);
  total_b = sum_of_column(total_b, columns, sums);
  if (int(threadIdx.x) >= columns || column >= c) return;
  parts[(2 * int64_t(blockIdx.y)) * c + column] = total_a;
  parts[(2 * int64_t(blockIdx.y) + 1) * c + column] = total_b;
}

// done(column, a, b) with the sums of all pieces.
template <typename Done>
CONVCORE_KERNEL(kSumThreads)
add_pieces(int64_t pieces, int64_t c, int columns, const double* parts, Done done) {
  SharedMemory shared;
  double* sums = shared.array<double>(kSumThreads);
  const int64_t column = int64_t(blockIdx.x) * columns + int(threadIdx.x) % columns;
  double a = 0, b = 0;
  for (int64_t piece = int(threadIdx.x) / columns; piece < pieces && column < c; piece += kSumThreads / columns) {
    a += parts[(2 * piece) * c + column];
    b += parts[(2 * piece + 1) * c + column];
  }
  a = sum_of_column(a, columns, sums);
  b = sum_of_column(b, columns, sums);
  if (int(threadIdx.x) < columns && column < c) done(column, a, b);
}

}  // namespace detail

// The second step: done(column, a, b) from parts (pieces, 2, c).
template <typename Done>
void add_pieces(const char* name, int64_t pieces, int64_t c, const double* parts, Done done) {
  const int columns = sum_columns(c);
  launch(name, detail::add_pieces<Done>, dim3(blocks_for(c, columns)), kSumThreads, shared_bytes<double>(kSumThreads),
         pieces, c, columns, parts, done);
}

template <typename Terms, typename Done>
void channel_sums(const char* name, int64_t rows, int64_t c, Terms terms, Done done) {
  if (c == 0) return;
  const int columns = sum_columns(c);
  const unsigned groups = blocks_for(c, columns);
  const int64_t pieces = sum_pieces(rows, groups);
  auto* parts = reinterpret_cast<double*>(workspace(kSumsWorkspace, 4 * pieces * c));
  launch(name, detail::sum_pieces_of_rows<Terms>, dim3(groups, unsigned(pieces)), kSumThreads,
         shared_bytes<double>(kSumThreads), rows, c, columns, terms, parts);
  add_pieces(name, pieces, c, static_cast<const double*>(parts), done);
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

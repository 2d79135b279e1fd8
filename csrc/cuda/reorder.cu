// reorder: transposes matrices by tiles of 32x32 in shared memory, so that both sides are read and written in order.
//
// Grid: x over tiles, y over matrices of the batch (as many as it holds; a block takes several). Block: 32 x 8 threads.
// Bytes: each array once.
#include "ops/reorder.h"

#include "cuda/device.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kTile = 32, kRows = 8;
constexpr int64_t kMostMatrices = 1024;  // of the grid's y

CONVCORE_KERNEL(kTile* kRows)
transpose_tiles(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out) {
  SharedMemory shared;
  float* tile = shared.array<float>(kTile * (kTile + 1));  // a column more: a column of the tile is in 32 banks
  const int64_t tiles = (columns + kTile - 1) / kTile;
  const int64_t row0 = int64_t(blockIdx.x) / tiles * kTile, column0 = int64_t(blockIdx.x) % tiles * kTile;
  const int x = int(threadIdx.x) % kTile, y = int(threadIdx.x) / kTile;
  for (int64_t n = blockIdx.y; n < batch; n += gridDim.y) {
    const float* from = in + n * rows * columns;
    float* to = out + n * rows * columns;
    for (int i = y; i < kTile; i += kRows)
      if (row0 + i < rows && column0 + x < columns)
        tile[i * (kTile + 1) + x] = from[(row0 + i) * columns + column0 + x];
    __syncthreads();
    for (int i = y; i < kTile; i += kRows)
      if (column0 + i < columns && row0 + x < rows) to[(column0 + i) * rows + row0 + x] = tile[x * (kTile + 1) + i];
    __syncthreads();
  }
}

void transpose(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out) {
  if (batch * rows * columns == 0) return;
  const int64_t tiles = ((rows + kTile - 1) / kTile) * ((columns + kTile - 1) / kTile);
  launch("reorder", transpose_tiles, dim3(unsigned(tiles), unsigned(batch < kMostMatrices ? batch : kMostMatrices)),
         kTile * kRows, shared_bytes<float>(kTile * (kTile + 1)), batch, rows, columns, in, out);
}

}  // namespace

ReorderKernels reorder_kernels() { return {transpose}; }

}  // namespace convcore::cuda

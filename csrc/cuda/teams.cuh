// Rows of numbers that are summed before they are written: a team of threads takes a row, a warp where rows are short,
// a block where they are long.
//
// Grid: as many blocks as there are rows (eight rows of a warp each to a block), at most kMostTeamBlocks; a team goes
// through its rows a grid apart.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kTeamThreads = 256;
constexpr int64_t kMostTeamBlocks = 132 * 8 * 4;
constexpr int64_t kLongRow = 2048;  // floats: eight for each thread of a block

template <bool kBlock>
class Team {
 public:
  static constexpr int kSize = kBlock ? kTeamThreads : kWarp;
  static constexpr int kTeams = kTeamThreads / kSize;  // in a block

  // `scratch`: kTeamThreads / 32 numbers of shared memory.
  __device__ explicit Team(double* scratch) : scratch_(scratch) {}
  __device__ int rank() const { return int(threadIdx.x) % kSize; }
  __device__ int64_t first_row() const { return int64_t(blockIdx.x) * kTeams + int(threadIdx.x) / kSize; }
  __device__ int64_t row_step() const { return int64_t(gridDim.x) * kTeams; }
  // The sum over the team, in every thread.
  __device__ double sum(double value) const {
    if constexpr (kBlock) return block_sum<kTeamThreads>(value, scratch_);
    return warp_sum(value);
  }

 private:
  double* scratch_;
};

// Launches kernel<kBlock>(rows, ...): `of_warps` and `of_blocks` are the two.
template <typename Kernel, typename... Arguments>
void launch_teams(const char* name, Kernel of_warps, Kernel of_blocks, int64_t rows, int64_t length,
                  Arguments... arguments) {
  if (rows == 0) return;
  const bool long_rows = length > kLongRow;
  const int64_t wanted = long_rows ? rows : (rows + Team<false>::kTeams - 1) / Team<false>::kTeams;
  launch(name, long_rows ? of_blocks : of_warps, dim3(unsigned(wanted < kMostTeamBlocks ? wanted : kMostTeamBlocks)),
         kTeamThreads, shared_bytes<double>(kTeamThreads / kWarp), rows, arguments...);
}

}  // namespace convcore::cuda

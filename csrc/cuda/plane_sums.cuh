// Sums per channel of row-major images (n, c, plane): the counterpart of channel_sums.cuh.
//
// Two kernels. In the first a block adds up the numbers of one channel in a piece of the images, its threads along the
// plane; the second adds the pieces up in order. A thread adds at most kFloatTerms numbers as float and goes on in
// double. Grid: x over channels, y over pieces, which the shape alone decides. Bytes: the images once.
#pragma once
#include "cuda/channel_sums.cuh"

namespace convcore::cuda {

constexpr int kPlaneThreads = 256;
constexpr int64_t kPlaneBlocks = 132 * 8;  // enough to fill a large GPU
constexpr int64_t kPlaneTerms = 4096;      // of a block at least: less costs more to add up than to make
constexpr int64_t kMostPlanePieces = 256;

inline int64_t plane_pieces(int64_t n, int64_t c, int64_t plane) {
  const int64_t wanted = (kPlaneBlocks + c - 1) / c, images = (kPlaneTerms + plane) / (plane + 1);
  int64_t pieces = images > 0 ? n / images : n;
  pieces = pieces < wanted ? pieces : wanted;
  return pieces < 1 ? 1 : pieces > kMostPlanePieces ? kMostPlanePieces : pieces;
}

namespace detail {

// terms(n, channel, offset, &a, &b) gives what to add for the number at `offset`. parts (pieces, 2, c).
template <typename Terms>
CONVCORE_KERNEL(kPlaneThreads)
sum_pieces_of_planes(int64_t n, int64_t c, int64_t plane, Terms terms, double* parts) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kPlaneThreads / kWarp);
  const int64_t channel = blockIdx.x;
  const int64_t begin = n * blockIdx.y / gridDim.y, end = n * (int64_t(blockIdx.y) + 1) / gridDim.y;
  double total_a = 0, total_b = 0;
  // The pixels of all images of the piece, one after the other: small planes fill the threads as well as large ones.
  int64_t image = begin, pixel = threadIdx.x;
  if (plane > 0) image += pixel / plane, pixel %= plane;
  const int64_t step_images = plane > 0 ? kPlaneThreads / plane : 0, step = plane > 0 ? kPlaneThreads % plane : 0;
  while (plane > 0 && image < end) {
    float a = 0, b = 0;
    for (int count = 0; count < kFloatTerms && image < end; count++) {
      float x, y;
      terms(image, channel, (image * c + channel) * plane + pixel, &x, &y);
      a += x, b += y;
      image += step_images, pixel += step;
      if (pixel >= plane) pixel -= plane, image++;
    }
    total_a += double(a), total_b += double(b);
  }
  total_a = block_sum<kPlaneThreads>(total_a, scratch);
  total_b = block_sum<kPlaneThreads>(total_b, scratch);
  if (threadIdx.x != 0) return;
  parts[(2 * int64_t(blockIdx.y)) * c + channel] = total_a;
  parts[(2 * int64_t(blockIdx.y) + 1) * c + channel] = total_b;
}

}  // namespace detail

// done(channel, a, b) with the sums over all images.
template <typename Terms, typename Done>
void plane_sums(const char* name, int64_t n, int64_t c, int64_t plane, Terms terms, Done done) {
  if (c == 0) return;
  const int64_t pieces = plane_pieces(n, c, plane);
  auto* parts = reinterpret_cast<double*>(workspace(kSumsWorkspace, 4 * pieces * c));
  launch(name, detail::sum_pieces_of_planes<Terms>, dim3(unsigned(c), unsigned(pieces)), kPlaneThreads,
         shared_bytes<double>(kPlaneThreads / kWarp), n, c, plane, terms, parts);
  add_pieces(name, pieces, c, static_cast<const double*>(parts), done);
}

}  // namespace convcore::cuda

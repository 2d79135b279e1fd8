// Winograd's minimal filtering F(4x4, 3x3) and F(2x2, 3x3) for 3x3 convolutions of stride 1 on channels-last images.
//
// An output tile of 4x4 pixels and the 6x6 input pixels it sees are polynomials of two variables; their product is
// found from its values at 6x6 points:
//
//   y = A^T [ (G g G^T) * (B^T d B) ] A       d: 6x6 input, g: 3x3 filter, y: 4x4 output, *: element by element
//
// 36 multiplications per channel pair instead of the 144 of the definition. With channels the element-wise product is
// one small matrix product per point: M[p] (tiles x c_out) = V[p] (tiles x c_in) U[p] (c_in x c_out). Tiles of 2x2 have
// 4x4 points, 16 multiplications instead of 36: for images so small that larger tiles would be mostly empty, and where
// transforming 36 values of each filter would take longer than the products.
//
// The points are 0, +-2/3, +-4/3 and infinity. Rounding errors grow with the size and spread of the points: these give
// 4e-6 of the output's RMS, the textbook's 0, +-1, +-2 three to five times as much for the same work. Tiles of 2x2 get
// by with 0, +-1 and infinity, and their error is that of a direct sum.
//
// Sources: S. Winograd, "Arithmetic Complexity of Computations", SIAM (1980); A. Lavin, S. Gray, "Fast Algorithms for
// Convolutional Neural Networks", CVPR (2016); B. Barabasz et al., "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks", TOMS 46 (2020).
#pragma once
#include "cpu/vec.h"
#include "ops/conv2d.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- the one-dimensional transforms -------------------------------------------------------------------------------
//
// On vectors of channels, for tiles of 4 (6 points) and of 2 (4 points): the sizes of the arrays tell which. The
// points come in pairs that share their parts: (0, infinity), (A, -A), (B, -B). A 2-D transform that takes one pair at
// a time fits 16 registers.

constexpr float kPointA = 2.f / 3, kPointB = 4.f / 3;
constexpr float kPointA2 = 4.f / 9, kPointB2 = 16.f / 9;            // squares
constexpr float kPointA3 = 8.f / 27, kPointB3 = 64.f / 27;          // cubes
constexpr float kPointsProduct = 64.f / 81, kPointsSum = 20.f / 9;  // A^2 B^2 and A^2 + B^2

struct VecPair {
  Vec first, second;
};

// Which of the points are the two of a pair.
constexpr int first_point(int pair) { return pair == 0 ? 0 : 2 * pair - 1; }
constexpr int second_point(int points, int pair) { return pair == 0 ? points - 1 : 2 * pair; }

// B^T d, 6 -> 6, two of the values. Pairs 1 and 2 do not look at d[0] and d[5].
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(const Vec (&d)[6]) {
  if constexpr (pair == 0)
    return {kPointsProduct * d[0] + (d[4] - kPointsSum * d[2]), kPointsProduct * d[1] + (d[5] - kPointsSum * d[3])};
  constexpr float p = pair == 1 ? kPointA : kPointB, other2 = pair == 1 ? kPointB2 : kPointA2;
  const Vec even = d[4] - other2 * d[2], odd = d[3] - other2 * d[1];
  return {even + p * odd, even - p * odd};
}

// B^T d, 4 -> 4. Pair 1 does not look at d[0] and d[3].
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(const Vec (&d)[4]) {
  if constexpr (pair == 0) return {d[0] - d[2], d[3] - d[1]};
  return {d[2] + d[1], d[2] - d[1]};
}

// A^T m, 6 -> 4 and 4 -> 2, plus `add` on each: free where it goes into an FMA.
CONVCORE_INLINE void winograd_output(const Vec (&m)[6], Vec add, Vec (&y)[4]) {
  const Vec sum_a = m[1] + m[2], sum_b = m[3] + m[4], diff_a = m[1] - m[2], diff_b = m[3] - m[4];
  y[0] = (m[0] + add) + sum_a + sum_b;
  y[1] = kPointA * diff_a + (kPointB * diff_b + add);
  y[2] = kPointA2 * sum_a + (kPointB2 * sum_b + add);
  y[3] = kPointA3 * diff_a + (kPointB3 * diff_b + (m[5] + add));
}

CONVCORE_INLINE void winograd_output(const Vec (&m)[4], Vec add, Vec (&y)[2]) {
  y[0] = (m[0] + add) + (m[1] + m[2]);
  y[1] = (m[3] + add) + (m[1] - m[2]);
}

// G g, 3 -> 6 and 3 -> 4, in the order of the points 0, A, -A, (B, -B,) infinity.
CONVCORE_INLINE void winograd_filter(Vec g0, Vec g1, Vec g2, Vec (&u)[6]) {
  constexpr float a = 1 / (2 * kPointA2 * (kPointA2 - kPointB2)), b = 1 / (2 * kPointB2 * (kPointB2 - kPointA2));
  const Vec even_a = a * g0 + (a * kPointA2) * g2, even_b = b * g0 + (b * kPointB2) * g2;
  u[0] = (1 / kPointsProduct) * g0;
  u[1] = even_a + (a * kPointA) * g1, u[2] = even_a - (a * kPointA) * g1;
  u[3] = even_b + (b * kPointB) * g1, u[4] = even_b - (b * kPointB) * g1;
  u[5] = g2;
}

CONVCORE_INLINE void winograd_filter(Vec g0, Vec g1, Vec g2, Vec (&u)[4]) {
  const Vec even = 0.5f * g0 + 0.5f * g2;
  u[0] = g0;
  u[1] = even + 0.5f * g1, u[2] = even - 0.5f * g1;
  u[3] = g2;
}

// ---- the convolution ----------------------------------------------------------------------------------------------

// One pass over images: `in` is x (forward) or dy (backward: input), `out` is y or dx; both channels last.
struct WinogradShape {
  int64_t n, h_in, w_in, c_in, h_out, w_out, c_out, pad_top, pad_left;
  int64_t tile;   // rows and columns of an output tile: 4 or 2
  bool backward;  // the filters are rotated by 180 degrees, their channels swapped
};

// Of convolutions 3x3, stride 1, no dilation, one group, at most two pixels of padding on each side;
// csrc/ops/conv2d_algorithm.cpp sees to that.
WinogradShape winograd_forward_shape(const Conv2dShape&, int tile);
WinogradShape winograd_backward_input_shape(const Conv2dShape&, int tile);

// The transformed filters U, which a caller may keep as long as the weights stay: their size in floats, and how they
// are made from w (C_out, C_in, 3, 3). `u` is aligned to kAlignment.
int64_t winograd_filter_floats(const WinogradShape&);
void winograd_transform_filters(const WinogradShape&, const float* w, float* u);

// out = the convolution of `in` by the filters, and what the epilogue says.
void winograd_convolve(const WinogradShape&, const float* in, const float* u, const ConvEpilogue&, float* out);

// All of it in one call.
void winograd_forward(const Conv2dShape&, int tile, const float* x, const float* w, const float* b, float* y);
void winograd_backward_input(const Conv2dShape&, int tile, const float* dy, const float* w, float* dx);

}  // namespace convcore::cpu::CONVCORE_ISA

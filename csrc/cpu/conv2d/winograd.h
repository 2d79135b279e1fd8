// Winograd's minimal filtering F(4x4, 3x3) for 3x3 convolutions of stride 1 on channels-last images.
//
// An output tile of 4x4 pixels and the 6x6 input pixels it sees are polynomials of two variables; their product is
// found from its values at 6x6 points:
//
//   y = A^T [ (G g G^T) * (B^T d B) ] A       d: 6x6 input, g: 3x3 filter, y: 4x4 output, *: element by element
//
// 36 multiplications per channel pair instead of the 144 of the definition. With channels the element-wise product is
// one small matrix product per point: M[p] (tiles x c_out) = V[p] (tiles x c_in) U[p] (c_in x c_out).
//
// The points are 0, +-2/3, +-4/3 and infinity. Rounding errors grow with the size and spread of the points: these give
// 4e-6 of the output's RMS, the textbook's 0, +-1, +-2 three to five times as much for the same work.
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
// On vectors of channels. Each comes in parts of few registers: a 2-D transform then fits 16 registers too.

constexpr float kPointA = 2.f / 3, kPointB = 4.f / 3;
constexpr float kPointA2 = 4.f / 9, kPointB2 = 16.f / 9;            // squares
constexpr float kPointA3 = 8.f / 27, kPointB3 = 64.f / 27;          // cubes
constexpr float kPointsProduct = 64.f / 81, kPointsSum = 20.f / 9;  // A^2 B^2 and A^2 + B^2

struct VecPair {
  Vec first, second;
};

// B^T d, 6 -> 6: at 0 (of d0, d2, d4) and at infinity (of d1, d3, d5),
CONVCORE_INLINE Vec winograd_input_end(Vec d0, Vec d2, Vec d4) { return kPointsProduct * d0 + (d4 - kPointsSum * d2); }

// at A and -A (pair 1, values 1 and 2), or at B and -B (pair 2, values 3 and 4).
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(Vec d1, Vec d2, Vec d3, Vec d4) {
  constexpr float p = pair == 1 ? kPointA : kPointB, other2 = pair == 1 ? kPointB2 : kPointA2;
  const Vec even = d4 - other2 * d2, odd = d3 - other2 * d1;
  return {even + p * odd, even - p * odd};
}

// The same as three pairs of values: (0, 5), (1, 2) and (3, 4).
constexpr int kInputPairs = 3;
constexpr int kPairPoints[kInputPairs][2] = {{0, 5}, {1, 2}, {3, 4}};
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(Vec d0, Vec d1, Vec d2, Vec d3, Vec d4, Vec d5) {
  if constexpr (pair == 0) return {winograd_input_end(d0, d2, d4), winograd_input_end(d1, d3, d5)};
  if constexpr (pair != 0) return winograd_input_pair<pair>(d1, d2, d3, d4);
}

// A^T m, 6 -> 4, plus `add` on each: free where it goes into an FMA.
CONVCORE_INLINE void winograd_output(Vec m0, Vec m1, Vec m2, Vec m3, Vec m4, Vec m5, Vec add, Vec& y0, Vec& y1, Vec& y2,
                                     Vec& y3) {
  const Vec sum_a = m1 + m2, sum_b = m3 + m4, diff_a = m1 - m2, diff_b = m3 - m4;
  y0 = (m0 + add) + sum_a + sum_b;
  y1 = kPointA * diff_a + (kPointB * diff_b + add);
  y2 = kPointA2 * sum_a + (kPointB2 * sum_b + add);
  y3 = kPointA3 * diff_a + (kPointB3 * diff_b + (m5 + add));
}

// G g, 3 -> 6, in the order of the points 0, A, -A, B, -B, infinity.
CONVCORE_INLINE void winograd_filter(Vec g0, Vec g1, Vec g2, Vec (&u)[6]) {
  constexpr float a = 1 / (2 * kPointA2 * (kPointA2 - kPointB2)), b = 1 / (2 * kPointB2 * (kPointB2 - kPointA2));
  const Vec even_a = a * g0 + (a * kPointA2) * g2, even_b = b * g0 + (b * kPointB2) * g2;
  u[0] = (1 / kPointsProduct) * g0;
  u[1] = even_a + (a * kPointA) * g1, u[2] = even_a - (a * kPointA) * g1;
  u[3] = even_b + (b * kPointB) * g1, u[4] = even_b - (b * kPointB) * g1;
  u[5] = g2;
}

// ---- the convolution ----------------------------------------------------------------------------------------------

// One pass over images: `in` is x (forward) or dy (backward: input), `out` is y or dx; both channels last.
struct WinogradShape {
  int64_t n, h_in, w_in, c_in, h_out, w_out, c_out, pad_top, pad_left;
  bool backward;  // the filters are rotated by 180 degrees, their channels swapped
};

// Of convolutions 3x3, stride 1, no dilation, one group, at most two pixels of padding on each side;
// csrc/ops/conv2d_algorithm.cpp sees to that.
WinogradShape winograd_forward_shape(const Conv2dShape&);
WinogradShape winograd_backward_input_shape(const Conv2dShape&);

// The transformed filters U, which a caller may keep as long as the weights stay: their size in floats, and how they
// are made from w (C_out, C_in, 3, 3). `u` is aligned to kAlignment.
int64_t winograd_filter_floats(const WinogradShape&);
void winograd_transform_filters(const WinogradShape&, const float* w, float* u);

// out = the convolution of `in` by the filters, and what the epilogue says.
void winograd_convolve(const WinogradShape&, const float* in, const float* u, const ConvEpilogue&, float* out);

// All of it in one call.
void winograd_forward(const Conv2dShape&, const float* x, const float* w, const float* b, float* y);
void winograd_backward_input(const Conv2dShape&, const float* dy, const float* w, float* dx);

}  // namespace convcore::cpu::CONVCORE_ISA

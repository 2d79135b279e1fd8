// Winograd's minimal filtering for 3x3 and 5x5 convolutions on channels-last images.
//
// An output tile and the input pixels it sees are polynomials of two variables; their product is found from its values
// at a few points:
//
//   y = A^T [ (G g G^T) * (B^T d B) ] A       d: input, g: filter, y: output, *: element by element
//
// With channels the element-wise product is one small matrix product per point: M[p] (tiles x c_out) = V[p] (tiles x
// c_in) U[p] (c_in x c_out).
//
// | filter         | tile | input | multiplications of a tile, channel by channel | of the definition |
// | 3x3            | 4x4  | 6x6   | 36                                            | 144               |
// | 3x3            | 2x2  | 4x4   | 16                                            | 36                |
// | 5x5            | 2x2  | 6x6   | 36                                            | 100               |
// | 3x3, stride 2  | 4x4  | 9x9   | 81                                            | 144               |
// | 3x3, stride 2  | 2x2  | 5x5   | 25                                            | 36                |
//
// Tiles of 2x2 are for images so small that larger tiles would be mostly empty, and where transforming more values of
// each filter would take longer than the products.
//
// Stride 2: along an axis the first and the third tap see the pixels of one parity (phase 0), the second tap those of
// the other (phase 1). So the result is a sum of four convolutions of stride 1, with two or one taps along each axis.
// They share one set of points, five for tiles of 4, where their products are added before they are transformed back.
// What has one tap is a filter of two whose second is zero: its value at infinity is zero too, and that product is left
// out: (5 + 4)^2 = 81. The gradient of the input has the same four as results: one transform of dy serves them all.
//
// The points of 3x3 are 0, +-2/3, +-4/3 and infinity. Rounding errors grow with the size and spread of the points:
// these give 4e-6 of the output's RMS, the textbook's 0, +-1, +-2 three to five times as much for the same work. Small
// tiles get by with (0,) +-1 and infinity, and their error is that of a direct sum. Large tiles of stride 2: +-1/2,
// +-9/8 and infinity.
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
// On vectors of channels; the sizes of the arrays tell which. The points come in pairs that share their parts: (0,
// infinity), (A, -A), (B, -B). A 2-D transform that takes one pair at a time fits 16 registers. Without a point 0 (an
// odd number of points) pair 0 is infinity alone, its second value nothing.

constexpr float kPointA = 2.f / 3, kPointB = 4.f / 3;
constexpr float kPointA2 = 4.f / 9, kPointB2 = 16.f / 9;            // squares
constexpr float kPointA3 = 8.f / 27, kPointB3 = 64.f / 27;          // cubes
constexpr float kPointsProduct = 64.f / 81, kPointsSum = 20.f / 9;  // A^2 B^2 and A^2 + B^2

constexpr float kStridedA = 1.f / 2, kStridedB = 9.f / 8;
constexpr float kStridedA2 = kStridedA * kStridedA, kStridedB2 = kStridedB * kStridedB;
constexpr float kStridedA3 = kStridedA2 * kStridedA, kStridedB3 = kStridedB2 * kStridedB;

struct VecPair {
  Vec first, second;
};

// Which of the points are the two of a pair.
constexpr int pairs_of(int points) { return (points + 1) / 2; }
constexpr int first_point(int points, int pair) {
  return pair > 0 ? 2 * pair - 2 + (points + 1) % 2 : points % 2 ? points - 1 : 0;
}
constexpr int second_point(int points, int pair) { return pair > 0 ? 2 * pair - 1 + (points + 1) % 2 : points - 1; }

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

// B^T d, 5 -> 5. Pairs 1 and 2 do not look at d[4].
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(const Vec (&d)[5]) {
  if constexpr (pair == 0) return {(kStridedA2 * kStridedB2) * d[0] + (d[4] - (kStridedA2 + kStridedB2) * d[2]), Vec{}};
  constexpr float p = pair == 1 ? kStridedA : kStridedB, other2 = pair == 1 ? kStridedB2 : kStridedA2;
  const Vec odd = d[3] - other2 * d[1], even = d[2] - other2 * d[0];
  return {odd + p * even, odd - p * even};
}

// B^T d, 3 -> 3. Pair 1 does not look at d[2].
template <int pair>
CONVCORE_INLINE VecPair winograd_input_pair(const Vec (&d)[3]) {
  if constexpr (pair == 0) return {d[2] - d[0], Vec{}};
  return {d[1] + d[0], d[1] - d[0]};
}

// A^T m plus `add` on each: free where it goes into an FMA. Unless `infinity`, the value there is zero and not read.
// 6 -> 4
template <bool infinity = true>
CONVCORE_INLINE void winograd_output(const Vec (&m)[6], Vec add, Vec (&y)[4]) {
  const Vec sum_a = m[1] + m[2], sum_b = m[3] + m[4], diff_a = m[1] - m[2], diff_b = m[3] - m[4];
  y[0] = (m[0] + add) + sum_a + sum_b;
  y[1] = kPointA * diff_a + (kPointB * diff_b + add);
  y[2] = kPointA2 * sum_a + (kPointB2 * sum_b + add);
  y[3] = kPointA3 * diff_a + (kPointB3 * diff_b + (m[5] + add));
}

// 4 -> 2
template <bool infinity = true>
CONVCORE_INLINE void winograd_output(const Vec (&m)[4], Vec add, Vec (&y)[2]) {
  y[0] = (m[0] + add) + (m[1] + m[2]);
  y[1] = (m[3] + add) + (m[1] - m[2]);
}

// 6 -> 2
template <bool infinity = true>
CONVCORE_INLINE void winograd_output(const Vec (&m)[6], Vec add, Vec (&y)[2]) {
  y[0] = (m[0] + add) + (m[1] + m[2]) + (m[3] + m[4]);
  y[1] = kPointA * (m[1] - m[2]) + (kPointB * (m[3] - m[4]) + (m[5] + add));
}

// 5 -> 4
template <bool infinity = true>
CONVCORE_INLINE void winograd_output(const Vec (&m)[5], Vec add, Vec (&y)[4]) {
  const Vec sum_a = m[0] + m[1], sum_b = m[2] + m[3], diff_a = m[0] - m[1], diff_b = m[2] - m[3];
  y[0] = sum_a + (sum_b + add);
  y[1] = kStridedA * diff_a + (kStridedB * diff_b + add);
  y[2] = kStridedA2 * sum_a + (kStridedB2 * sum_b + add);
  y[3] = kStridedA3 * diff_a + (kStridedB3 * diff_b + (infinity ? m[4] + add : add));
}

// 3 -> 2
template <bool infinity = true>
CONVCORE_INLINE void winograd_output(const Vec (&m)[3], Vec add, Vec (&y)[2]) {
  y[0] = m[0] + (m[1] + add);
  y[1] = m[0] - m[1] + (infinity ? m[2] + add : add);
}

// G g, in the order of the points (0,) A, -A, (B, -B,) infinity. 3 -> 6
CONVCORE_INLINE void winograd_filter(const Vec (&g)[3], Vec (&u)[6]) {
  constexpr float a = 1 / (2 * kPointA2 * (kPointA2 - kPointB2)), b = 1 / (2 * kPointB2 * (kPointB2 - kPointA2));
  const Vec even_a = a * g[0] + (a * kPointA2) * g[2], even_b = b * g[0] + (b * kPointB2) * g[2];
  u[0] = (1 / kPointsProduct) * g[0];
  u[1] = even_a + (a * kPointA) * g[1], u[2] = even_a - (a * kPointA) * g[1];
  u[3] = even_b + (b * kPointB) * g[1], u[4] = even_b - (b * kPointB) * g[1];
  u[5] = g[2];
}

// 5 -> 6
CONVCORE_INLINE void winograd_filter(const Vec (&g)[5], Vec (&u)[6]) {
  constexpr float a = 1 / (2 * kPointA2 * (kPointA2 - kPointB2)), b = 1 / (2 * kPointB2 * (kPointB2 - kPointA2));
  const Vec even_a = a * (g[0] + kPointA2 * (g[2] + kPointA2 * g[4])), odd_a = (a * kPointA) * (g[1] + kPointA2 * g[3]);
  const Vec even_b = b * (g[0] + kPointB2 * (g[2] + kPointB2 * g[4])), odd_b = (b * kPointB) * (g[1] + kPointB2 * g[3]);
  u[0] = (1 / kPointsProduct) * g[0];
  u[1] = even_a + odd_a, u[2] = even_a - odd_a;
  u[3] = even_b + odd_b, u[4] = even_b - odd_b;
  u[5] = g[4];
}

// 3 -> 4
CONVCORE_INLINE void winograd_filter(const Vec (&g)[3], Vec (&u)[4]) {
  const Vec even = 0.5f * g[0] + 0.5f * g[2];
  u[0] = g[0];
  u[1] = even + 0.5f * g[1], u[2] = even - 0.5f * g[1];
  u[3] = g[2];
}

// 2 -> 5
CONVCORE_INLINE void winograd_filter(const Vec (&g)[2], Vec (&u)[5]) {
  constexpr float a = 1 / (2 * kStridedA * (kStridedA2 - kStridedB2)),
                  b = 1 / (2 * kStridedB * (kStridedB2 - kStridedA2));
  u[0] = a * g[0] + (a * kStridedA) * g[1], u[1] = (a * kStridedA) * g[1] - a * g[0];
  u[2] = b * g[0] + (b * kStridedB) * g[1], u[3] = (b * kStridedB) * g[1] - b * g[0];
  u[4] = g[1];
}

// 2 -> 3
CONVCORE_INLINE void winograd_filter(const Vec (&g)[2], Vec (&u)[3]) {
  u[0] = 0.5f * g[0] + 0.5f * g[1], u[1] = 0.5f * g[1] - 0.5f * g[0];
  u[2] = g[1];
}

// ---- the convolution ----------------------------------------------------------------------------------------------

// One pass over images: `in` is x (forward) or dy (backward: input), `out` is y or dx; both channels last. Tile (0, 0)
// sees the pixel (-pad_top, -pad_left) of `in` first, and its result is the pixel (out_top, out_left) of `out`, which
// is outside when negative (of the gradient of the input by stride 2).
struct WinogradShape {
  int64_t n, h_in, w_in, c_in, h_out, w_out, c_out, pad_top, pad_left, out_top, out_left;
  int64_t tile;          // rows and columns of an output tile (of a phase, if those are results): 4 or 2
  int64_t taps, stride;  // 3 and 1, 5 and 1, or 3 and 2
  bool backward;         // the filters are rotated by 180 degrees, their channels swapped
};

// Of convolutions 3x3 with stride 1 or 2, or 5x5 with stride 1 (whose tiles are of 2x2, whatever `tile` says), no
// dilation, one group, padding smaller than the filter; csrc/ops/conv2d_algorithm.cpp sees to that.
WinogradShape winograd_forward_shape(const Conv2dShape&, int tile);
WinogradShape winograd_backward_input_shape(const Conv2dShape&, int tile);

// The transformed filters U, which a caller may keep as long as the weights stay: their size in floats, and how they
// are made from w (OIHW). `u` is aligned to kAlignment.
int64_t winograd_filter_floats(const WinogradShape&);
void winograd_transform_filters(const WinogradShape&, const float* w, float* u);

// out = the convolution of `in` by the filters, and what the epilogue says.
void winograd_convolve(const WinogradShape&, const float* in, const float* u, const ConvEpilogue&, float* out);

// All of it in one call.
void winograd_forward(const Conv2dShape&, int tile, const float* x, const float* w, const float* b, float* y);
void winograd_backward_input(const Conv2dShape&, int tile, const float* dy, const float* w, float* dx);

}  // namespace convcore::cpu::CONVCORE_ISA

// stochastic_pool2d: the outputs of a row are vector lanes. Each window is read twice: for the sum, and for the
// position where the sum so far passes the drawn threshold. A row of outputs is one item (backward: a plane).
#include "ops/stochastic_pool2d.h"

#include "cpu/elementwise.h"
#include "cpu/philox.h"
#include "cpu/pool2d.h"

namespace convcore::cpu::CONVCORE_ISA {

// The pixels under one tap of `lanes` neighbouring windows, `stride` apart.
CONVCORE_INLINE Vec load_strided(const float* p, int64_t stride, int64_t lanes) {
  if (stride == 1) return load_columns<1>(p, lanes);
  if (stride == 2) return load_columns<2>(p, lanes);
  float values[kLanes] = {};
  for (int64_t l = 0; l < lanes; l++) values[l] = p[l * stride];
  return load(values);
}

// max(x, 0), where a NaN stays.
CONVCORE_INLINE Vec positive(Vec x) { return select(x <= Vec{}, Vec{}, x); }

// f(value under the tap, its position in the plane of lane 0) for the taps of the windows whose first pixel in lane 0
// is `corner`.
template <typename F>
CONVCORE_INLINE void for_each_tap(const Pool2dShape& s, const float* plane, int64_t corner, int64_t lanes, const F& f) {
  for (int64_t r = 0; r < s.window.h.kernel; r++)
    for (int64_t q = 0; q < s.window.w.kernel; q++) {
      const int64_t at = corner + r * s.w_in + q;
      f(positive(load_strided(plane + at, s.window.w.stride, lanes)), at);
    }
}

// Uniform in [0, 1), as uniform_float of core/random.h.
CONVCORE_INLINE Vec uniform(Bits bits) {
  return __builtin_convertvector((IntVec)(bits >> 8), Vec) * (1.0f / 16777216.0f);
}

// ---- training: draw -------------------------------------------------------------------------------------------------

static void draw_windows(const Pool2dShape& s, const float* plane, int64_t corner, int64_t lanes, Vec u, float* y,
                         int32_t* indices) {
  Vec total{};
  for_each_tap(s, plane, corner, lanes, [&](Vec a, int64_t) { total += a; });
  const Vec threshold = u * total;
  const IntVec step = lane_numbers() * splat_int(int32_t(s.window.w.stride));
  Vec so_far{}, value{};
  IntVec position = step + splat_int(int32_t(corner)), drawn{};  // of a window without positive values: its first pixel
  for_each_tap(s, plane, corner, lanes, [&](Vec a, int64_t at) {
    so_far += a;
    // Rounding may leave the last sum at the threshold: so the last positive value stays unless a later one is drawn.
    const IntVec here = (a > Vec{}) & (drawn == IntVec{});
    value = select(here, a, value);
    position = select_int(here, step + splat_int(int32_t(at)), position);
    drawn |= here & (so_far > threshold);
  });
  store_lanes(y, select(total == total, value, total), lanes);
  if (lanes == kLanes)
    store_int(indices, position);
  else
    store_int_partial(indices, position, lanes);
}

static void draw(const Pool2dShape& shape, const RandomKey* given_key, int64_t first_plane, const float* x, float* y,
                 int32_t* indices) {
  const RandomKey key = *given_key;
  const int64_t blocks_of_row = (shape.w_out + 3) / 4, taps = shape.window.h.kernel * shape.window.w.kernel;
  parallel_for(shape.planes * shape.h_out, shape.w_out * (taps + 4), [=](int64_t begin, int64_t end) {
    const Pool2dShape s = shape;  // local, as the keys: vectors that are stored may alias all other memory
    const RoundKeys keys(key.seed);
    for (int64_t row = begin; row < end; row++) {
      const float* plane = x + row / s.h_out * s.h_in * s.w_in;
      const int64_t corner = row % s.h_out * s.window.h.stride * s.w_in;
      const uint64_t first_block = uint64_t((first_plane * s.h_out + row) * blocks_of_row);
      for (int64_t j = 0; j < s.w_out; j += 2 * kLanes) {
        Bits bits[2];
        philox_chunk(keys, key.stream, first_block + uint64_t(j / 4), &bits[0], &bits[1]);
        for (int64_t half = 0; half < 2; half++) {
          const int64_t at = j + half * kLanes, lanes = min_of<int64_t>(kLanes, s.w_out - at);
          if (lanes > 0)
            draw_windows(s, plane, corner + at * s.window.w.stride, lanes, uniform(bits[half]), y + row * s.w_out + at,
                         indices + row * s.w_out + at);
        }
      }
    }
  });
}

// ---- otherwise: the mean with the probabilities as weights
// ------------------------------------------------------------

struct WindowMean {
  Vec total, mean;
};
CONVCORE_INLINE WindowMean mean_of_windows(const Pool2dShape& s, const float* plane, int64_t corner, int64_t lanes) {
  Vec total{}, squares{};
  for_each_tap(s, plane, corner, lanes, [&](Vec a, int64_t) {
    total += a;
    squares += a * a;
  });
  return {total, select(total == Vec{}, Vec{}, squares / total)};
}

static void mean(const Pool2dShape& shape, const float* x, float* y) {
  const int64_t taps = shape.window.h.kernel * shape.window.w.kernel;
  parallel_for(shape.planes * shape.h_out, shape.w_out * taps, [=](int64_t begin, int64_t end) {
    const Pool2dShape s = shape;
    for (int64_t row = begin; row < end; row++) {
      const float* plane = x + row / s.h_out * s.h_in * s.w_in;
      const int64_t corner = row % s.h_out * s.window.h.stride * s.w_in;
      for_each_vector(s.w_out, [&](int64_t j, int64_t lanes) {
        store_lanes(y + row * s.w_out + j, mean_of_windows(s, plane, corner + j * s.window.w.stride, lanes).mean,
                    lanes);
      });
    }
  });
}

static void add_window_gradient(const Pool2dShape& s, int64_t corner, float dy, float total, float mean, const float* x,
                                float* dx) {
  for (int64_t r = 0; r < s.window.h.kernel; r++)
    for (int64_t q = 0; q < s.window.w.kernel; q++) {
      const int64_t at = corner + r * s.w_in + q;
      if (!(x[at] <= 0)) dx[at] += dy * (2 * x[at] - mean) / total;
    }
}

static void mean_backward(const Pool2dShape& shape, const float* dy, const float* x, float* dx) {
  const int64_t in = shape.h_in * shape.w_in, out = shape.h_out * shape.w_out;
  const int64_t taps = shape.window.h.kernel * shape.window.w.kernel;
  parallel_for(shape.planes, in + 4 * out * taps, [=](int64_t begin, int64_t end) {
    const Pool2dShape s = shape;
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t plane = begin; plane < end; plane++)
      for (int64_t i = 0; i < s.h_out; i++)
        for_each_vector(s.w_out, [&](int64_t j, int64_t lanes) {
          const int64_t corner = i * s.window.h.stride * s.w_in + j * s.window.w.stride;
          const WindowMean of = mean_of_windows(s, x + plane * in, corner, lanes);
          for (int64_t l = 0; l < lanes; l++)
            add_window_gradient(s, corner + l * s.window.w.stride, dy[plane * out + i * s.w_out + j + l], of.total[l],
                                of.mean[l], x + plane * in, dx + plane * in);
        });
  });
}

StochasticPool2dKernels stochastic_pool2d_kernels();
StochasticPool2dKernels stochastic_pool2d_kernels() { return {draw, mean, mean_backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

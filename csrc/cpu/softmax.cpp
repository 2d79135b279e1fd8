// softmax and log_softmax: three passes over each row of c numbers (maximum; exponentials and their sum; scaling).
//
// When the chosen dimension is the last one, a row is contiguous and the lanes hold neighbours of one row. Otherwise
// the lanes hold neighbouring rows, which have a stride of `inner`. Cost: one exp per element.
#include "ops/softmax.h"

#include "cpu/elementwise.h"
#include "cpu/math.h"

namespace convcore::cpu::CONVCORE_ISA {

static constexpr int64_t kWork = 25;  // elementary operations per element

// Calls body(offset, lanes) for each block of neighbouring rows that fills a vector; element c of the rows lies at
// offset + c * inner.
template <typename F>
CONVCORE_INLINE void for_each_column_block(const SoftmaxShape& s, int64_t work, const F& body) {
  const int64_t blocks = (s.inner + kLanes - 1) / kLanes;
  parallel_for(s.outer * blocks, s.c * kLanes * work, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t i = item % blocks * kLanes;
      body(item / blocks * s.c * s.inner + i, min_of<int64_t>(kLanes, s.inner - i));
    }
  });
}

// ---- forward ------------------------------------------------------------------------------------------------------

template <Softmax kKind>
static void forward_row(int64_t c_count, const float* x, float* y) {
  const Vec high = splat(max_of_row(x, c_count));
  Vec total{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec z = load_lanes(x + c, lanes) - high;
    const Vec e = exp(z);
    total += select(lanes_below(lanes), e, Vec{});
    store_lanes(y + c, kKind == Softmax::log ? z : e, lanes);
  });
  const Vec s = splat(sum(total));
  const Vec by = kKind == Softmax::log ? log(s) : splat(1.0f) / s;
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    const Vec v = load_lanes(y + c, lanes);
    store_lanes(y + c, kKind == Softmax::log ? v - by : v * by, lanes);
  });
}

template <Softmax kKind>
static void forward_columns(const SoftmaxShape& s, const float* x, float* y, int64_t lanes) {
  Vec high = splat(-__builtin_inff());
  for (int64_t c = 0; c < s.c; c++) {
    const Vec v = load_lanes(x + c * s.inner, lanes);
    high = select(v > high, v, high);
  }
  Vec total{};
  for (int64_t c = 0; c < s.c; c++) {
    const Vec z = load_lanes(x + c * s.inner, lanes) - high;
    const Vec e = exp(z);
    total += e;
    store_lanes(y + c * s.inner, kKind == Softmax::log ? z : e, lanes);
  }
  const Vec by = kKind == Softmax::log ? log(total) : splat(1.0f) / total;
  for (int64_t c = 0; c < s.c; c++) {
    const Vec v = load_lanes(y + c * s.inner, lanes);
    store_lanes(y + c * s.inner, kKind == Softmax::log ? v - by : v * by, lanes);
  }
}

template <Softmax kKind>
static void forward(const SoftmaxShape& s, const float* x, float* y) {
  if (s.inner == 1) {
    parallel_for(s.outer, s.c * kWork, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; o++) forward_row<kKind>(s.c, x + o * s.c, y + o * s.c);
    });
  } else {
    for_each_column_block(
        s, kWork, [&](int64_t offset, int64_t lanes) { forward_columns<kKind>(s, x + offset, y + offset, lanes); });
  }
}

// ---- backward -----------------------------------------------------------------------------------------------------

// One term of the sum, and the gradient from that sum.
template <Softmax kKind>
CONVCORE_INLINE Vec term(Vec dy, Vec y) {
  return kKind == Softmax::log ? dy : dy * y;
}

template <Softmax kKind>
CONVCORE_INLINE Vec gradient(Vec dy, Vec y, Vec total) {
  return kKind == Softmax::log ? dy - exp(y) * total : y * (dy - total);
}

template <Softmax kKind>
static void backward_row(int64_t c_count, const float* dy, const float* y, float* dx) {
  Vec lane_totals{};
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    lane_totals += term<kKind>(load_lanes(dy + c, lanes), load_lanes(y + c, lanes));
  });
  const Vec total = splat(sum(lane_totals));
  for_each_vector(c_count, [&](int64_t c, int64_t lanes) {
    store_lanes(dx + c, gradient<kKind>(load_lanes(dy + c, lanes), load_lanes(y + c, lanes), total), lanes);
  });
}

template <Softmax kKind>
static void backward_columns(const SoftmaxShape& s, const float* dy, const float* y, float* dx, int64_t lanes) {
  Vec total{};
  for (int64_t at = 0; at < s.c * s.inner; at += s.inner)
    total += term<kKind>(load_lanes(dy + at, lanes), load_lanes(y + at, lanes));
  for (int64_t at = 0; at < s.c * s.inner; at += s.inner)
    store_lanes(dx + at, gradient<kKind>(load_lanes(dy + at, lanes), load_lanes(y + at, lanes), total), lanes);
}

template <Softmax kKind>
static void backward(const SoftmaxShape& s, const float* dy, const float* y, float* dx) {
  const int64_t work = kKind == Softmax::log ? kWork : 4;
  if (s.inner == 1) {
    parallel_for(s.outer, s.c * work, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; o++) backward_row<kKind>(s.c, dy + o * s.c, y + o * s.c, dx + o * s.c);
    });
  } else {
    for_each_column_block(s, work, [&](int64_t offset, int64_t lanes) {
      backward_columns<kKind>(s, dy + offset, y + offset, dx + offset, lanes);
    });
  }
}

SoftmaxKernels softmax_kernels();
SoftmaxKernels softmax_kernels() {
  return {{forward<Softmax::plain>, forward<Softmax::log>}, {backward<Softmax::plain>, backward<Softmax::log>}};
}

}  // namespace convcore::cpu::CONVCORE_ISA

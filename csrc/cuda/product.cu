// The products of product.h: which precision, and the sum of the parts.
#include "cuda/product.h"

#include "cuda/elementwise.cuh"
#include "cuda/product_launch.h"

namespace convcore::cuda {
namespace {

// Adds the parts in the order of the splits; one thread per element of the gradient.
struct SumParts {
  const float* parts;  // (splits, c_out, taps, c)
  int64_t splits, stride;
  int taps, c;
  bool taps_first;
  float* dw;
  __device__ void operator()(int64_t at) const {
    float sum = parts[at];
    for (int64_t split = 1; split < splits; split++) sum += parts[split * stride + at];
    const int64_t channel = at % c, tap = at / c % taps, k = at / c / taps;
    dw[taps_first ? at : (k * c + channel) * taps + tap] = sum;
  }
};

// work(Products of the current precision)
template <typename Work>
void with_precision(const Work& work) {
  switch (precision()) {
    case Precision::tf32:
      return work(Products<Precision::tf32>());
    case Precision::tf32x3:
      return work(Products<Precision::tf32x3>());
    case Precision::bf16:
      return work(Products<Precision::bf16>());
    default:
      return work(Products<Precision::fp32>());
  }
}

}  // namespace

Operand plain_operand(const float* data, int64_t h, int64_t w, int64_t c) {
  Operand in{};
  in.data = data, in.h = int(h), in.w = int(w), in.c = int(c);
  return in;
}

void taps_product(const char* name, const TapsProduct& p) {
  if (pixels_of(p) == 0 || p.c_out == 0) return;
  with_precision([&](auto products) { decltype(products)::taps(name, p); });
}

void pixels_product_parts(const char* name, const PixelsProduct& q, int widest, const TapsProduct* p, float* parts) {
  if (q.dy.c == 0 || q.taps.count * q.in.c == 0) return;
  if (p && pixels_of(*p) == 0) p = nullptr;
  with_precision([&](auto products) { decltype(products)::pixels(name, q, widest, p, parts); });
}

int64_t pixels_product_splits(const PixelsProduct& p, int widest) {
  if (p.dy.c == 0 || p.taps.count * p.in.c == 0) return 1;
  return Products<Precision::fp32>::splits(p, widest);
}

void sum_parts(const char* name, int64_t splits, int64_t c_out, int taps, int c, bool taps_first, const float* parts,
               float* dw) {
  const int64_t count = c_out * taps * c;
  for_positions(name, count, SumParts{parts, splits, count, taps, c, taps_first, dw});
}

void pixels_product(const char* name, const PixelsProduct& p, bool taps_first, float* dw) {
  if (p.dy.c == 0 || p.taps.count * p.in.c == 0) return;
  const int64_t splits = pixels_product_splits(p, p.dy.c);
  const bool direct = splits == 1 && (taps_first || p.taps.count == 1);
  float* parts = direct ? dw : workspace(kPartsWorkspace, splits * p.dy.c * p.taps.count * p.in.c);
  pixels_product_parts(name, p, p.dy.c, nullptr, parts);
  if (!direct) sum_parts(name, splits, p.dy.c, p.taps.count, p.in.c, taps_first, parts, dw);
}

}  // namespace convcore::cuda

// The products of one precision: between product.cu and what is compiled for each precision by itself.
#pragma once
#include "cuda/product.h"

namespace convcore::cuda {

template <Precision kPrecision>
struct Products {  // contracts: product.h; nothing is empty
  static void taps(const char* name, const TapsProduct& p);
  static void pixels(const char* name, const PixelsProduct& q, int widest, const TapsProduct* p /* or null */,
                     float* parts);
  static int64_t splits(const PixelsProduct& q, int widest);  // the same for every precision
};

// Of all phases.
inline int64_t pixels_of(const TapsProduct& p) {
  int64_t pixels = 0;
  for (int i = 0; i < p.phases; i++) pixels += int64_t(p.images) * p.phase[i].rows * p.phase[i].columns;
  return pixels;
}

}  // namespace convcore::cuda

// The passes of a convolution as products (product.h), without their pointers. See conv2d.cu.
#pragma once
#include "cuda/product.h"
#include "ops/conv2d.h"

namespace convcore::cuda {

bool fits_products(const Conv2dShape& s);
TapsProduct forward_product(const Conv2dShape& s);         // filters (c_out, taps, c_in)
TapsProduct backward_input_product(const Conv2dShape& s);  // filters (c_in, taps, c_out)
PixelsProduct backward_weight_product(const Conv2dShape& s);

}  // namespace convcore::cuda

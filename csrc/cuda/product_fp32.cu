#include "cuda/product_kernels.cuh"

namespace convcore::cuda {
template struct Products<Precision::fp32>;
}

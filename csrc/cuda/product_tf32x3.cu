#include "cuda/product_kernels.cuh"

namespace convcore::cuda {
template struct Products<Precision::tf32x3>;
}

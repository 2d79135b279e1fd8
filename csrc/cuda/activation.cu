// Activations: one pass over the elements. Formulas: ops/activation.h.
#include "ops/activation.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Relu {
  __device__ float operator()(float x) const { return x <= 0 ? 0.0f : x; }  // NaN passes
};
struct LeakyRelu {
  float slope;
  __device__ float operator()(float x) const { return x > 0 ? x : slope * x; }
};
struct Tanh {
  __device__ float operator()(float x) const { return tanhf(x); }
};
struct Sigmoid {
  __device__ float operator()(float x) const { return 1.0f / (1.0f + expf(-x)); }
};

struct ReluGradient {
  __device__ float operator()(float dy, float of) const { return of <= 0 ? 0.0f : dy; }
};
struct LeakyReluGradient {
  float slope;
  __device__ float operator()(float dy, float x) const { return x > 0 ? dy : slope * dy; }
};
struct TanhGradient {
  __device__ float operator()(float dy, float y) const { return dy * (1.0f - y * y); }
};
struct SigmoidGradient {
  __device__ float operator()(float dy, float y) const { return dy * y * (1.0f - y); }
};

template <typename Function>
struct Forward {
  Function function;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = function(in[0]); }
};
template <typename Function>
struct Backward {
  Function function;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = function(in[0], in[1]); }
};

template <typename Function>
Function make(float slope) {
  if constexpr (std::is_empty_v<Function>)
    return Function{};
  else
    return Function{slope};
}

template <typename Function>
void forward(int64_t count, float slope, const float* x, float* y) {
  for_elements("activation", count, ElementArrays<1, 1>{{x}, {y}}, Forward<Function>{make<Function>(slope)});
}
template <typename Function>
void backward(int64_t count, float slope, const float* dy, const float* of, float* dx) {
  for_elements("activation backward", count, ElementArrays<2, 1>{{dy, of}, {dx}},
               Backward<Function>{make<Function>(slope)});
}

}  // namespace

cpu::ActivationKernels activation_kernels() {
  return {{forward<Relu>, forward<LeakyRelu>, forward<Tanh>, forward<Sigmoid>},
          {backward<ReluGradient>, backward<LeakyReluGradient>, backward<TanhGradient>, backward<SigmoidGradient>}};
}

}  // namespace convcore::cuda

#include "ops/conv2d_passes.h"

#include "ops/conv2d_algorithm.h"
#include "ops/kernels.h"

namespace convcore {

static bool on_cuda() { return current_device() == Device::cuda; }  // where all images are channels-last

ConvForwardLayouts conv_forward_layouts(ConvAlgorithm algorithm) {
  if (on_cuda()) return {Layout::channels_last, Layout::channels_last};
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return {std::nullopt, Layout::channels_last};
    case ConvAlgorithm::gemm:
    case ConvAlgorithm::winograd:
    case ConvAlgorithm::winograd2x2:
      return {Layout::channels_last, Layout::channels_last};
    default:
      return {Layout::row_major, Layout::row_major};
  }
}

ConvBackwardInputLayouts conv_backward_input_layouts(ConvAlgorithm algorithm) {
  if (on_cuda()) return {Layout::channels_last, Layout::channels_last};
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return {std::nullopt, Layout::channels_last};
    case ConvAlgorithm::gemm:
    case ConvAlgorithm::winograd:
    case ConvAlgorithm::winograd2x2:
      return {Layout::channels_last, Layout::channels_last};
    default:
      return {std::nullopt, Layout::row_major};
  }
}

ConvBackwardWeightLayouts conv_backward_weight_layouts(ConvAlgorithm algorithm, const Conv2dShape& s) {
  if (on_cuda()) return {Layout::channels_last, Layout::channels_last, false};
  if (algorithm == ConvAlgorithm::planar) return {Layout::row_major, Layout::row_major, false};
  if (algorithm == ConvAlgorithm::direct && few_input_channels(s))
    return {Layout::channels_last, Layout::row_major, true};
  return {Layout::channels_last, Layout::channels_last, false};
}

int winograd_tile(ConvAlgorithm algorithm) {
  if (algorithm == ConvAlgorithm::winograd) return 4;
  return algorithm == ConvAlgorithm::winograd2x2 ? 2 : 0;
}

void conv_forward(ConvAlgorithm algorithm, const Conv2dShape& s, const float* x, Layout layout, const float* w,
                  const float* b, float* y) {
  const auto& kernels = current_kernels().conv2d;
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return (few_input_channels(s) && !on_cuda() ? kernels.few_forward : kernels.direct_forward)(s, x, layout, w, b,
                                                                                                  y);
    case ConvAlgorithm::gemm:
      return kernels.pointwise_forward(s, x, w, b, y);
    case ConvAlgorithm::winograd:
    case ConvAlgorithm::winograd2x2:
      return kernels.winograd_forward(s, winograd_tile(algorithm), x, w, b, y);
    default:
      return kernels.planar_forward(s, x, w, b, y);
  }
}

void conv_backward_input(ConvAlgorithm algorithm, const Conv2dShape& s, const float* dy, Layout layout, const float* w,
                         float* dx) {
  const auto& kernels = current_kernels().conv2d;
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return kernels.direct_backward_input(s, dy, layout, w, dx);
    case ConvAlgorithm::gemm:
      return kernels.pointwise_backward_input(s, dy, w, dx);
    case ConvAlgorithm::winograd:
    case ConvAlgorithm::winograd2x2:
      return kernels.winograd_backward_input(s, winograd_tile(algorithm), dy, w, dx);
    default:
      return kernels.planar_backward_input(s, dy, layout, w, dx);
  }
}

void conv_backward_weight(ConvAlgorithm algorithm, const Conv2dShape& s, const float* dy, const float* x, float* dw,
                          float* db) {
  const auto& kernels = current_kernels().conv2d;
  switch (algorithm) {
    case ConvAlgorithm::direct:
      if (few_input_channels(s) && !on_cuda()) return kernels.few_backward_weight(s, dy, x, dw, db);
      return kernels.direct_backward_weight(s, dy, x, dw);
    case ConvAlgorithm::gemm:
      return kernels.pointwise_backward_weight(s, dy, x, dw);
    case ConvAlgorithm::winograd:
      return kernels.winograd_backward_weight(s, dy, x, dw);
    default:
      return kernels.planar_backward_weight(s, dy, x, dw);
  }
}

}  // namespace convcore

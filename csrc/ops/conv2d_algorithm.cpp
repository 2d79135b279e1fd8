#include "ops/conv2d_algorithm.h"

namespace convcore {
namespace {

// Channels as lanes pay from here on: with fewer, too many lanes of the widest vector stay empty.
constexpr int64_t kManyChannels = 12;

// Winograd pays when its 4x4 tiles are not mostly empty, and enough of them share one transform of the filters.
constexpr double kTileUse = 0.4;
constexpr int64_t kManyTiles = 16;

bool winograd_pays(const Conv2dShape& s) {
  const int64_t tiles = (s.h_out + 3) / 4 * ((s.w_out + 3) / 4);
  return s.c_in >= kManyChannels && s.c_out >= kManyChannels && s.n * tiles >= kManyTiles &&
         double(s.h_out * s.w_out) >= kTileUse * 16.0 * double(tiles);
}

bool is_3x3_stride_1(const Conv2dShape& s) {
  const auto axis = [](const WindowAxis& w) {
    return w.kernel == 3 && w.stride == 1 && w.dilation == 1 && w.pad_before <= 2 && w.pad_after <= 2;
  };
  return axis(s.window.h) && axis(s.window.w) && s.groups == 1;
}

bool is_1x1(const Conv2dShape& s) {
  const auto axis = [](const WindowAxis& w) { return w.kernel == 1 && w.pad_before == 0 && w.pad_after == 0; };
  return axis(s.window.h) && axis(s.window.w) && s.groups == 1;
}

// 1x1 filters as a matrix product: from here on its larger tiles of pixels beat the direct kernel's rows. The direct
// kernel cuts the gradient of the weights by images as well, and stays ahead until that gradient is large.
constexpr int64_t kProductChannels = 32, kProductWeights = 1 << 17;

bool product_pays(const Conv2dShape& s, ConvPass pass) {
  return std::min(s.c_in, s.c_out) >= kProductChannels &&
         (pass != ConvPass::backward_weight || s.c_in * s.c_out >= kProductWeights);
}

bool can(ConvAlgorithm algorithm, const Conv2dShape& s) {
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return s.groups == 1;
    case ConvAlgorithm::gemm:
      return is_1x1(s);
    case ConvAlgorithm::winograd:
      return is_3x3_stride_1(s);
    default:
      return true;
  }
}

// The direct kernel keeps whole padded rows of all channels; with a far-flung filter on a small image they are mostly
// padding, and the planar kernel, which copies what each tap needs, is the better one.
bool mostly_padding(const Conv2dShape& s) {
  return s.window.h.extent() > 2 * (s.h_in + 8) || s.window.w.extent() > 2 * (s.w_in + 8);
}

}  // namespace

bool few_input_channels(const Conv2dShape& s) { return s.c_in < kManyChannels; }

ConvAlgorithm choose_algorithm(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm wanted) {
  if (wanted != ConvAlgorithm::automatic) {
    if (!can(wanted, s))
      fail(op, "the algorithm cannot compute this convolution", "one that can, or 'auto'", algorithm_name(wanted));
    return wanted;
  }
  if (is_3x3_stride_1(s) && winograd_pays(s)) return ConvAlgorithm::winograd;
  if (is_1x1(s) && product_pays(s, pass)) return ConvAlgorithm::gemm;
  const int64_t lanes = pass == ConvPass::backward_input ? s.c_in : s.c_out;  // the channels that are lanes
  if (can(ConvAlgorithm::direct, s) && lanes >= kManyChannels && !mostly_padding(s)) return ConvAlgorithm::direct;
  return ConvAlgorithm::planar;
}

ConvAlgorithm parse_algorithm(const char* op, const std::string& name) {
  for (ConvAlgorithm a : {ConvAlgorithm::automatic, ConvAlgorithm::planar, ConvAlgorithm::direct, ConvAlgorithm::gemm,
                          ConvAlgorithm::winograd})
    if (name == algorithm_name(a)) return a;
  fail(op, "algo is not known", "'auto', 'planar', 'direct', 'gemm' or 'winograd'", "'" + name + "'");
}

const char* algorithm_name(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::planar:
      return "planar";
    case ConvAlgorithm::direct:
      return "direct";
    case ConvAlgorithm::gemm:
      return "gemm";
    case ConvAlgorithm::winograd:
      return "winograd";
    default:
      return "auto";
  }
}

}  // namespace convcore

#include "ops/conv2d_algorithm.h"

namespace convcore {
namespace {

// Vectors of output channels pay from here on: with fewer, too many lanes of the widest vector stay empty.
constexpr int64_t kManyChannels = 12;

bool can(ConvAlgorithm algorithm, const Conv2dShape& s) {
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return s.groups == 1;
    case ConvAlgorithm::winograd:
      return false;
    default:
      return true;
  }
}

}  // namespace

ConvAlgorithm choose_algorithm(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm wanted) {
  if (wanted != ConvAlgorithm::automatic) {
    if (!can(wanted, s))
      fail(op, "the algorithm cannot compute this convolution", "one that can, or 'auto'", algorithm_name(wanted));
    return wanted;
  }
  const int64_t lanes = pass == ConvPass::backward_input ? s.c_in : s.c_out;  // channels of the result
  if (can(ConvAlgorithm::direct, s) && lanes >= kManyChannels) return ConvAlgorithm::direct;
  return ConvAlgorithm::planar;
}

ConvAlgorithm parse_algorithm(const char* op, const std::string& name) {
  for (ConvAlgorithm a :
       {ConvAlgorithm::automatic, ConvAlgorithm::planar, ConvAlgorithm::direct, ConvAlgorithm::winograd})
    if (name == algorithm_name(a)) return a;
  fail(op, "algo is not known", "'auto', 'planar', 'direct' or 'winograd'", "'" + name + "'");
}

const char* algorithm_name(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::planar:
      return "planar";
    case ConvAlgorithm::direct:
      return "direct";
    case ConvAlgorithm::winograd:
      return "winograd";
    default:
      return "auto";
  }
}

}  // namespace convcore

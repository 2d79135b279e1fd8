// Which algorithm computes a convolution: the one place where it is decided.
//
// The answer depends on the shape alone, never on threads or timings, so that a program gives the same bits every time.
#pragma once
#include "ops/conv2d.h"

namespace convcore {

enum class ConvPass { forward, backward_input, backward_weight };

// `wanted` if it is not `automatic`. Throws std::invalid_argument when that algorithm cannot compute this convolution.
ConvAlgorithm choose_algorithm(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm wanted);

// Whether the direct algorithm reads x channel by channel, row-major, because the channels would not fill a vector.
bool few_input_channels(const Conv2dShape& s);

ConvAlgorithm parse_algorithm(const char* op,
                              const std::string& name);  // "auto", "planar", "direct", "gemm", "winograd"
const char* algorithm_name(ConvAlgorithm algorithm);

}  // namespace convcore

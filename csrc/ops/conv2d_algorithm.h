// Which algorithm computes a convolution: the one place where it is decided.
//
// What the caller asks for; else what was measured and loaded (set_measured_choices; by default nothing); else by the
// shape. The answer depends on the shape and the loaded choices alone, never on threads or on timings at run time, so
// that a program gives the same bits every time.
//
// CONVCORE_VERBOSE=1 prints a line on stderr when a convolution is chosen for the first time:
//
//   convcore: conv2d forward 128x16x32x32 -> 16, 3x3, padding 1,1,1,1: winograd (automatic)
//
// "asked", "measured" or "automatic" say why.
#pragma once
#include <string>
#include <vector>

#include "ops/conv2d.h"

namespace convcore {

enum class ConvPass { forward, backward_input, backward_weight };

// `wanted` if it is not `automatic`; where only its other passes are Winograd's, the gradient of the weights is that of
// winograd or, with stride 2, direct. Throws std::invalid_argument when that algorithm cannot compute
// this convolution.
ConvAlgorithm choose_algorithm(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm wanted);

// For the convolutions that run together with their ReLU and pooling (ops/conv_pool.h), where there is no choice:
// prints the line that CONVCORE_VERBOSE=1 asks for.
void show_pooled(const char* op, const Conv2dShape& s);

// Those that can compute it.
std::vector<ConvAlgorithm> possible_algorithms(const Conv2dShape& s, ConvPass pass);

// From now on these are taken for their shapes, in place of the ones set before. Throws std::invalid_argument, and
// changes nothing, when an algorithm cannot compute its convolution. What is compiled already (a plan) keeps its
// choices.
struct MeasuredChoice {
  Conv2dShape shape;
  ConvPass pass;
  ConvAlgorithm algorithm;
};
void set_measured_choices(const std::vector<MeasuredChoice>& choices);

// Whether the direct algorithm reads x channel by channel, row-major, because the channels would not fill a vector.
bool few_input_channels(const Conv2dShape& s);

ConvAlgorithm parse_algorithm(const char* op, const std::string& name);  // "auto", or the name of an algorithm
const char* algorithm_name(ConvAlgorithm algorithm);
ConvPass parse_pass(const char* op, const std::string& name);  // "forward", "backward_input", "backward_weight"
const char* pass_name(ConvPass pass);

}  // namespace convcore

// How a loss over many elements becomes one number.
#pragma once
#include <string>

#include "core/check.h"

namespace convcore {

enum class Reduction { mean, sum, none };

inline Reduction parse_reduction(const char* op, const std::string& text) {
  if (text == "mean") return Reduction::mean;
  if (text == "sum") return Reduction::sum;
  if (text == "none") return Reduction::none;
  fail(op, "reduction is not known", "'mean', 'sum' or 'none'", "'" + text + "'");
}

}  // namespace convcore

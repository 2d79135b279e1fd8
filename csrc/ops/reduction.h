// How a loss over many elements becomes one number.
#pragma once
#include <string>

#include "core/array.h"

namespace convcore {

enum class Reduction { mean, sum, none };

inline Reduction parse_reduction(const char* op, const std::string& text) {
  if (text == "mean") return Reduction::mean;
  if (text == "sum") return Reduction::sum;
  if (text == "none") return Reduction::none;
  fail(op, "reduction is not known", "'mean', 'sum' or 'none'", "'" + text + "'");
}

// The sum of the losses of all samples, or their mean over `counted` of them: added in double, in a fixed order.
Tensor reduce_losses(const char* op, const Tensor& losses, Reduction reduction, int64_t counted);

struct ReductionKernels {
  void (*sum)(int64_t count, const float* x, double divisor, float* y);  // *y = sum of x / divisor
  void (*sum_doubles)(int64_t count, const double* x, double divisor, float* y);
  void (*sum_squares)(int64_t count, const float* x, double* y);
};

}  // namespace convcore

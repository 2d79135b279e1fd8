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

// The sum of the losses of all samples, or their mean over `counted` of them: added in order, in double.
inline Tensor reduce_losses(const char* op, const Tensor& losses, Reduction reduction, int64_t counted) {
  double total = 0;
  const int64_t count = losses.count();
  for (int64_t i = 0; i < count; i++) total += double(losses.data()[i]);
  Tensor loss = Tensor::empty(op, "loss", {});
  *loss.data() = float(reduction == Reduction::mean ? total / double(counted) : total);
  return loss;
}

}  // namespace convcore

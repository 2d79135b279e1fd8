// The network as Python hands it over: nodes in an order in which each comes after its inputs.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/check.h"

namespace convcore::plan {

struct Node {
  std::string op;    // "input", "conv2d", "relu", ...: see the functions of builder.h
  std::string name;  // of the layer, as in state_dict
  std::vector<int> inputs;
  std::vector<int> parameters;                            // numbers; -1: the layer has none there
  std::map<std::string, std::vector<double>> attributes;  // "stride": {1, 1}, ...

  // The attribute's value; throws std::invalid_argument when there is none.
  int64_t integer(const char* key, size_t index = 0) const { return int64_t(number(key, index)); }
  double number(const char* key, size_t index = 0) const {
    const auto found = attributes.find(key);
    if (found == attributes.end() || found->second.size() <= index)
      fail("plan", "node '" + name + "' of op '" + op + "' is incomplete", std::string("the attribute ") + key, "none");
    return found->second[index];
  }
};

struct ParameterInfo {
  Shape shape;
  bool trainable;
  int group;             // of the optimizer; -1: none
  int mask = -1;         // the number of an array of the same shape: where it is 0, the gradient is; -1: none
  bool limited = false;  // its rows have a largest norm
};

struct Graph {
  std::vector<Node> nodes;  // the first is the input, the last the output
  std::vector<ParameterInfo> parameters;
  double clip_grad_norm = 0;  // of all gradients together, at most; 0: no limit
};

}  // namespace convcore::plan

#include "plan/rules.h"

#include <algorithm>

#include "ops/activation.h"

namespace convcore::plan {
namespace {

int consumers(const Graph& graph, int node) {
  int count = node + 1 == int(graph.nodes.size());  // the caller reads the last one
  for (const Node& other : graph.nodes)
    for (int input : other.inputs) count += input == node;
  return count;
}

// Takes node `index` out; who read it reads `instead`.
void remove(Graph& graph, int index, int instead) {
  graph.nodes.erase(graph.nodes.begin() + index);
  for (Node& node : graph.nodes)
    for (int& input : node.inputs) {
      if (input == index) input = instead;
      if (input > index) input--;
    }
}

bool is_relu(const Node& node) { return node.op == "activation" && node.integer("kind") == int64_t(Activation::relu); }

bool is_open_batch_norm(const Graph& graph, int index) {  // nothing is fused after it yet
  const Node& node = graph.nodes[size_t(index)];
  return node.op == "batch_norm" && node.integer("relu") == 0 && node.inputs.size() == 1 &&
         consumers(graph, index) == 1;
}

}  // namespace

void fuse_batch_norm_relu(Graph& graph) {
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    if (!is_relu(graph.nodes[size_t(i)])) continue;
    const int norm = graph.nodes[size_t(i)].inputs[0];
    Node& node = graph.nodes[size_t(norm)];
    if (node.op != "batch_norm" || node.integer("relu") != 0 || consumers(graph, norm) != 1) continue;
    node.attributes["relu"] = {1};
    remove(graph, i--, norm);
  }
}

void fuse_batch_norm_add(Graph& graph) {
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    if (graph.nodes[size_t(i)].op != "add") continue;
    for (int side = 0; side < 2; side++) {
      const int norm = graph.nodes[size_t(i)].inputs[size_t(side)],
                other = graph.nodes[size_t(i)].inputs[size_t(1 - side)];
      if (norm == other || !is_open_batch_norm(graph, norm)) continue;
      // The fused node takes the place of the sum: the residual may come after the batch norm.
      Node fused = graph.nodes[size_t(norm)];
      fused.inputs.push_back(other);
      graph.nodes[size_t(i)] = std::move(fused);
      remove(graph, norm, -1);
      i--;
      break;
    }
  }
}

namespace {

bool all_are(const Node& node, const char* key, double value) {
  for (double v : node.attributes.at(key))
    if (v != value) return false;
  return true;
}

bool is_2x2_max_pool(const Node& node) {
  return node.op == "max_pool2d" && all_are(node, "kernel_size", 2) && all_are(node, "stride", 2) &&
         all_are(node, "padding", 0) && all_are(node, "dilation", 1) && node.integer("ceil_mode") == 0;
}

// On a CPU: convolutions of many channels by 3x3 filters are faster by Winograd's algorithm, which has no pooling; and
// where there are many channels, each of few terms, the separate kernels are faster than a walk over the winners,
// unless the lanes are pixels (cpu/conv_pool.cpp).
bool conv_can_pool(const Graph& graph, const Node& node) {
  if (node.op != "conv2d" || node.integer("groups") != 1 || !all_are(node, "stride", 1) ||
      !all_are(node, "dilation", 1))
    return false;
  if (current_device() == Device::cuda) return true;  // never more kernels than the separate ops
  const Shape& w = graph.parameters[size_t(node.parameters[0])].shape;
  constexpr int64_t kManyChannels = 12, kManyTerms = 64, kNarrowFilter = 8;
  if (w[2] == 3 && w[3] == 3 && w[0] >= kManyChannels && w[1] >= kManyChannels) return false;
  return w[0] < kManyChannels || w[1] * w[2] * w[3] >= kManyTerms || (w[1] == 1 && w[3] <= kNarrowFilter);
}

}  // namespace

void fuse_conv_relu_pool(Graph& graph) {
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    if (!is_2x2_max_pool(graph.nodes[size_t(i)])) continue;
    const int relu = graph.nodes[size_t(i)].inputs[0];
    if (!is_relu(graph.nodes[size_t(relu)]) || consumers(graph, relu) != 1) continue;
    const int conv = graph.nodes[size_t(relu)].inputs[0];
    if (!conv_can_pool(graph, graph.nodes[size_t(conv)]) || consumers(graph, conv) != 1) continue;
    graph.nodes[size_t(conv)].op = "conv_pool";
    remove(graph, i, relu);
    remove(graph, relu, conv);
    i -= 2;
  }
}

void fuse_conv_relu(Graph& graph) {
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    if (!is_relu(graph.nodes[size_t(i)])) continue;
    const int conv = graph.nodes[size_t(i)].inputs[0];
    Node& node = graph.nodes[size_t(conv)];
    if (node.op != "conv2d" || consumers(graph, conv) != 1) continue;
    node.attributes["relu"] = {1};
    remove(graph, i--, conv);
  }
}

// The first reader of the batch norm is the last to add to its gradient.
void fuse_batch_norm_sums(Graph& graph) {
  if (current_device() == Device::cuda) return;
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    Node& conv = graph.nodes[size_t(i)];
    if (conv.op != "conv2d") continue;
    const int norm = conv.inputs[0];
    bool first = true;
    for (int k = 0; k < i; k++)
      for (int input : graph.nodes[size_t(k)].inputs) first = first && input != norm;
    if (graph.nodes[size_t(norm)].op == "batch_norm" && first) conv.attributes["sums_gradient"] = {1};
  }
}

void fold_batch_norm(Graph& graph) {
  for (int i = 0; i < int(graph.nodes.size()); i++) {
    const Node& norm = graph.nodes[size_t(i)];
    if (norm.op != "batch_norm") continue;
    const int conv = norm.inputs[0];
    const bool has_one = graph.nodes[size_t(conv)].parameters.size() > 2;  // a batch norm, and what came after it
    if (graph.nodes[size_t(conv)].op != "conv2d" || has_one || consumers(graph, conv) != 1) continue;
    // The folded node takes the place of the batch norm: its residual may come after the convolution.
    Node folded = graph.nodes[size_t(conv)];
    folded.parameters.resize(2, -1);
    folded.parameters.insert(folded.parameters.end(), norm.parameters.begin(), norm.parameters.end());
    folded.attributes["relu"] = norm.attributes.at("relu");
    folded.attributes["eps"] = norm.attributes.at("eps");
    if (norm.inputs.size() > 1) folded.inputs.push_back(norm.inputs[1]);
    graph.nodes[size_t(i)] = std::move(folded);
    remove(graph, conv, -1);
    i--;
  }
}

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all{
      {"conv + relu + max_pool", fuse_conv_relu_pool, true},
      {"batch_norm + add", fuse_batch_norm_add, true},
      {"batch_norm + relu", fuse_batch_norm_relu, true},
      {"conv + batch_norm", fold_batch_norm, false},
      {"conv + relu", fuse_conv_relu, true},
      {"batch_norm sums in conv backward", fuse_batch_norm_sums, true},
  };
  return all;
}

Graph fuse(Graph graph, bool training, const std::vector<std::string>& without) {
  for (const Rule& rule : rules())
    if ((rule.in_training || !training) && std::find(without.begin(), without.end(), rule.name) == without.end())
      rule.apply(graph);
  return graph;
}

}  // namespace convcore::plan

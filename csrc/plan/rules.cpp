#include "plan/rules.h"

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

bool is_relu(const Node& node) {
  return node.op == "activation" && node.integer("kind") == int64_t(Activation::relu);
}

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
      const int norm = graph.nodes[size_t(i)].inputs[size_t(side)], other = graph.nodes[size_t(i)].inputs[size_t(1 - side)];
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

Graph fuse(Graph graph, bool) {
  fuse_batch_norm_add(graph);
  fuse_batch_norm_relu(graph);
  return graph;
}

}  // namespace convcore::plan

// Fusions: each rule rewrites the graph where it finds its pattern, and the result means the same.
#pragma once
#include "plan/graph.h"

namespace convcore::plan {

// relu(batch_norm(x)) -> batch_norm with relu
void fuse_batch_norm_relu(Graph&);
// batch_norm(x) + r -> batch_norm with the residual r
void fuse_batch_norm_add(Graph&);
// max_pool2d(relu(conv2d(x))) with windows of 2x2 -> conv_pool, where no faster convolution is lost by it
void fuse_conv_relu_pool(Graph&);

// relu(conv2d(x)) -> conv2d with relu
void fuse_conv_relu(Graph&);
// conv2d(batch_norm(x)): the gradient of the convolution's input is summed for the batch norm on the way
void fuse_batch_norm_sums(Graph&);
// batch_norm(conv2d(x)), with its relu and residual -> conv2d with other weights; for inference only
void fold_batch_norm(Graph&);

struct Rule {
  const char* name;
  void (*apply)(Graph&);
  bool in_training;
};
const std::vector<Rule>& rules();  // in the order in which they are applied

// The graph after all rules, except those named in `without`.
Graph fuse(Graph graph, bool training, const std::vector<std::string>& without);

}  // namespace convcore::plan

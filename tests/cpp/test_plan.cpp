// A planned network: nothing is allocated in a steady training, the bits do not depend on threads and on how the steps
// are cut into calls, and nothing is read that was not written. The search over networks is in tests/test_plan.py.
#include "plan/plan.h"

#include "core/allocator.h"
#include "count_news.h"
#include "helpers.h"
#include "plan/rules.h"

namespace convcore::plan {
namespace {

using test::random_tensor;

using Attributes = std::map<std::string, std::vector<double>>;

// Writes down a network, a node after the other.
struct Network {
  Graph graph;
  Shape input;

  int add(const std::string& op, std::vector<int> inputs, std::vector<int> parameters = {},
          Attributes attributes = {}) {
    graph.nodes.push_back({op, op, std::move(inputs), std::move(parameters), std::move(attributes)});
    return int(graph.nodes.size()) - 1;
  }
  int parameter(Shape shape, bool trainable = true) {
    graph.parameters.push_back({std::move(shape), trainable, trainable ? 0 : -1});
    return int(graph.parameters.size()) - 1;
  }
  int conv(int x, int64_t c_in, int64_t c_out, int64_t k, double pad, double stride = 1) {
    return add("conv2d", {x}, {parameter({c_out, c_in, k, k}), parameter({c_out})},
               {{"stride", {stride, stride}},
                {"padding", {pad, pad, pad, pad}},
                {"dilation", {1, 1}},
                {"same", {0}},
                {"groups", {1}},
                {"relu", {0}}});
  }
  int norm(int x, int64_t c) {
    return add("batch_norm", {x}, {parameter({c}), parameter({c}), parameter({c}, false), parameter({c}, false)},
               {{"momentum", {0.1}}, {"eps", {1e-5}}, {"relu", {0}}});
  }
  int relu(int x) { return add("activation", {x}, {}, {{"kind", {0}}, {"alpha", {0}}, {"beta", {0}}}); }
  int max_pool(int x) {
    return add(
        "max_pool2d", {x}, {},
        {{"kernel_size", {2, 2}}, {"stride", {2, 2}}, {"padding", {0, 0}}, {"dilation", {1, 1}}, {"ceil_mode", {0}}});
  }
  int linear(int x, int64_t in, int64_t out) { return add("linear", {x}, {parameter({out, in}), parameter({out})}); }
  void loss(int x) {
    add("cross_entropy", {x}, {}, {{"ignore_index", {-100}}, {"mean", {1}}, {"label_smoothing", {0.1}}});
  }
};

Network lenet() {
  Network n;
  n.input = {1, 12, 12};
  int x = n.add("input", {});
  x = n.max_pool(n.relu(n.conv(x, 1, 6, 5, 2)));
  x = n.max_pool(n.relu(n.conv(x, 6, 16, 3, 0)));
  x = n.relu(n.linear(n.add("flatten", {x}), 64, 20));
  x = n.add("dropout", {x}, {}, {{"p", {0.5}}, {"number", {0}}});
  n.loss(n.linear(x, 20, 5));
  return n;
}

Network resnet() {
  Network n;
  n.input = {3, 8, 8};
  int x = n.add("input", {});
  x = n.relu(n.norm(n.conv(x, 3, 16, 3, 1), 16));
  int y = n.norm(n.conv(n.relu(n.norm(n.conv(x, 16, 16, 3, 1), 16)), 16, 16, 3, 1), 16);
  x = n.relu(n.add("add", {y, x}));
  y = n.norm(n.conv(n.relu(n.norm(n.conv(x, 16, 24, 3, 1, 2), 24)), 24, 24, 3, 1), 24);
  x = n.relu(n.add("add", {y, n.add("pad_channels", {x}, {}, {{"padding", {4, 4}}, {"stride", {2, 2}}})}));
  x = n.add("adaptive_avg_pool2d", {x}, {}, {{"output_size", {1, 1}}});
  n.loss(n.linear(n.add("flatten", {x}), 24, 5));
  return n;
}

Graph without_loss(Graph graph) {
  graph.nodes.pop_back();
  return graph;
}

// A network in training, with the memory of its parameters and of Adam.
struct Training {
  Network network;
  Plan plan;
  std::vector<Tensor> arrays;
  std::vector<ParameterMemory> parameters;
  Tensor x;
  LabelArray labels = LabelArray::empty("test", "labels", {40});

  explicit Training(Network n, double clip = 0)
      : network(clipped(std::move(n), clip)), plan(network.graph, without_loss(network.graph), network.input) {
    for (const ParameterInfo& info : network.graph.parameters) {
      ParameterMemory memory;
      const auto array = [&](float value) {
        arrays.push_back(random_tensor(info.shape, arrays.size()));
        if (value >= 0) std::fill_n(arrays.back().data(), arrays.back().count(), value);
        return arrays.back().data();
      };
      memory.data = array(info.trainable ? -1.f : 1.f);
      if (info.trainable) memory.grad = array(-1), memory.state[0] = array(0), memory.state[1] = array(0);
      memory.first_step = true;
      parameters.push_back(memory);
    }
    Shape shape = network.input;
    shape.insert(shape.begin(), labels.count());
    x = random_tensor(shape, 77);
    for (int64_t i = 0; i < labels.count(); i++) labels.data()[i] = i % 5;
  }

  static Network clipped(Network n, double clip) {
    n.graph.clip_grad_norm = clip;
    return n;
  }

  // Steps `begin` to `end` of a training.
  std::vector<StepResult> train(int64_t begin, int64_t end, int64_t batch) {
    return plan.train(arguments(begin, end, batch));
  }

  TrainingArguments arguments(int64_t begin, int64_t end, int64_t batch) const {
    TrainingArguments a{};
    a.x.floats = x, a.labels = labels, a.batch = batch, a.ignore_index = -100, a.mean = true;
    a.order = LabelArray::empty("test", "order", {(end - begin) * batch});
    for (int64_t i = 0; i < a.order.count(); i++) a.order.data()[i] = (begin * batch + i) * 7 % labels.count();
    for (int64_t i = begin; i < end; i++) a.dropout_keys.push_back({3, uint64_t(i)});
    a.groups.push_back({AdamParams{0.01, 0.9, 0.999, 1e-8, 0, false, begin + 1}});
    a.parameters = parameters;
    return a;
  }

  std::vector<Tensor> copies() const {
    std::vector<Tensor> all;
    for (const Tensor& array : arrays) {
      all.push_back(Tensor::empty("test", "copy", array.shape()));
      std::copy_n(array.data(), array.count(), all.back().data());
    }
    return all;
  }
};

// What a call asks for, whatever the number of its steps: places for arguments and results.
TEST_CASE("a training step allocates nothing") {
  for (const Network& network : {lenet(), resnet()})
    for (double clip : {0.0, 1.0})
      for (int threads : {1, 3}) {
        test::Threads scope(threads);
        Training t(network, clip);
        t.train(0, 12, 16);
        const auto count = [&](int64_t steps) {
          const TrainingArguments arguments = t.arguments(0, steps, 16);
          const int64_t news = test::count_of_news();
          const size_t blocks = allocator_stats().system_requests;
          t.plan.train(arguments);
          CHECK(allocator_stats().system_requests == blocks);
          return test::count_of_news() - news;
        };
        const int64_t few = count(2);
        CHECK(count(12) == few);
        CHECK(few < 20);
        CHECK((few > 0) == test::kCountsNews);
      }
}

TEST_CASE("a training has the same bits at any number of threads") {
  for (const Network& network : {lenet(), resnet()})
    test::check_same_bits_at_any_thread_count([&] {
      Training t(network, 1.0);
      t.train(0, 3, 33);
      return t.copies();
    });
}

TEST_CASE("a training has the same bits in one call and in many") {
  for (const Network& network : {lenet(), resnet()}) {
    Training whole(network), parts(network);
    const auto all = whole.train(0, 5, 16);
    for (int64_t step = 0; step < 5; step++) {
      const auto one = parts.train(step, step + 1, 16);
      CHECK(one[0].loss == all[size_t(step)].loss);
      CHECK(one[0].right == all[size_t(step)].right);
      CHECK(one[0].targets == 16);
      CHECK(std::isfinite(one[0].loss));
    }
    const auto a = whole.copies(), b = parts.copies();
    for (size_t i = 0; i < a.size(); i++) test::check_same_bits(a[i], b[i]);
  }
}

TEST_CASE("the output of a network does not depend on what is not its input") {
  for (const Network& network : {lenet(), resnet()}) {
    Training t(network);
    t.train(0, 2, 20);
    ImageSource source;
    source.floats = t.x;
    const Tensor whole = t.plan.forward(source, 40, t.parameters);
    CHECK(to_string(whole.shape()) == "(40, 5)");
    for (int64_t i = 0; i < whole.count(); i++) REQUIRE(std::isfinite(whole.data()[i]));
    for (int64_t batch : {1, 7, 16, 100}) {
      const Tensor y = t.plan.forward(source, batch, t.parameters);
      for (int64_t i = 0; i < whole.count(); i++)
        REQUIRE(std::fabs(y.data()[i] - whole.data()[i]) <= 1e-4f * (1 + std::fabs(whole.data()[i])));
    }
  }
}

TEST_CASE("what cannot be planned is named") {
  Network n;
  n.input = {4};
  n.loss(n.add("no such op", {n.add("input", {})}));
  CHECK(test::message_of([&] { Plan(n.graph, n.graph, n.input).prepare(8, true); }).find("no such op") !=
        std::string::npos);
}

}  // namespace
}  // namespace convcore::plan

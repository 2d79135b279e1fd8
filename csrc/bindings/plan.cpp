// The planned network (csrc/plan): graphs from dicts, and the calls that train and predict.
#include "plan/plan.h"

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "plan/rules.h"

namespace convcore {
namespace {

using plan::Graph;

Graph to_graph(const py::list& nodes, const py::list& parameters) {
  Graph graph;
  for (py::handle item : nodes) {
    const py::dict dict = py::reinterpret_borrow<py::dict>(item);
    plan::Node node;
    node.op = py::cast<std::string>(dict["op"]);
    node.name = py::cast<std::string>(dict["name"]);
    node.inputs = py::cast<std::vector<int>>(dict["inputs"]);
    node.parameters = py::cast<std::vector<int>>(dict["parameters"]);
    for (const auto& [key, value] : py::cast<py::dict>(dict["attributes"]))
      node.attributes[py::cast<std::string>(key)] = py::cast<std::vector<double>>(value);
    graph.nodes.push_back(std::move(node));
  }
  for (py::handle item : parameters) {
    const py::tuple tuple = py::reinterpret_borrow<py::tuple>(item);
    graph.parameters.push_back({py::cast<Shape>(tuple[0]), py::cast<bool>(tuple[1]), py::cast<int>(tuple[2]),
                                py::cast<int>(tuple[3]), py::cast<bool>(tuple[4])});
  }
  return graph;
}

// The memory of the parameters: a list of (data, grad, state, state, state, first step), None where there is none. What
// is only read may be strided.
struct Memory {
  std::vector<py::object> holders;
  std::vector<std::shared_ptr<void>> owners;
  std::vector<plan::ParameterMemory> parameters;

  Memory(const plan::Plan& plan, const py::list& list, bool training) {
    const std::vector<plan::ParameterInfo>& infos = plan.parameters();
    if (list.size() != infos.size())
      fail("plan", "parameters has the wrong length", std::to_string(infos.size()), std::to_string(list.size()));
    for (size_t i = 0; i < infos.size(); i++) {
      const py::tuple tuple = py::reinterpret_borrow<py::tuple>(list[i]);
      const Shape& shape = infos[i].shape;
      plan::ParameterMemory memory;
      memory.data = array(tuple[0], shape, training), memory.grad = array(tuple[1], shape, training);
      for (size_t k = 0; k < 3; k++) memory.state[k] = array(tuple[2 + k], shape, training);
      memory.first_step = py::cast<bool>(tuple[5]);
      if (training && infos[i].trainable && !memory.grad)
        fail("plan", "parameters has no place for a gradient", "an array", "None");
      parameters.push_back(memory);
    }
  }

 private:
  float* array(const py::object& object, const Shape& shape, bool written) {
    if (object.is_none()) return nullptr;
    Arg<float> arg = written ? inout_arg("fit", "a parameter", object) : tensor_arg("predict", "a parameter", object);
    expect_shape("plan", "a parameter", arg.array.shape(), shape, "the shape that was planned");
    holders.push_back(arg.holder);
    owners.push_back(arg.array.owner());  // of a copy into order
    return const_cast<float*>(arg.array.data());
  }
};

// The images of a call: the array, and how it is gathered: (pad, flip, seed, stream, scale, shift).
struct Source {
  PixelsArg x;
  Arg<float> scale, shift;
  plan::ImageSource source;

  Source(const char* op, const py::object& array, const py::tuple& gather)
      : x(pixels_arg(op, "x", array)),
        scale(optional_tensor_arg(op, "scale", gather[4])),
        shift(optional_tensor_arg(op, "shift", gather[5])) {
    source.floats = x.floats, source.bytes = x.bytes;
    source.gather.pad = py::cast<int64_t>(gather[0]);
    source.gather.flip = py::cast<bool>(gather[1]);
    source.gather.key = {py::cast<uint64_t>(gather[2]), py::cast<uint64_t>(gather[3])};
    source.gather.scale = scale.array.data(), source.gather.shift = shift.array.data();
  }
};

plan::GroupSettings to_group(const py::dict& group) {
  const auto number = [&](const char* key) { return py::cast<double>(group[key]); };
  const auto truth = [&](const char* key) { return py::cast<bool>(group[key]); };
  const auto kind = py::cast<std::string>(group["kind"]);
  plan::GroupSettings settings{};
  settings.max_norm = number("max_norm");
  const double lr = number("lr"), weight_decay = number("weight_decay"), l1 = number("l1");
  if (kind == "sgd")
    settings.rule = SgdParams{lr, number("momentum"), number("dampening"), weight_decay, truth("nesterov"), false, l1};
  if (kind == "adam")
    settings.rule = AdamParams{lr,
                               number("beta1"),
                               number("beta2"),
                               number("eps"),
                               weight_decay,
                               truth("decoupled"),
                               py::cast<int64_t>(group["step"]),
                               l1};
  if (kind == "rmsprop")
    settings.rule =
        RmspropParams{lr, number("alpha"), number("eps"), weight_decay, number("momentum"), truth("centered"), l1};
  if (kind == "adagrad")
    settings.rule =
        AdagradParams{lr, number("lr_decay"), number("eps"), weight_decay, py::cast<int64_t>(group["step"]), l1};
  return settings;
}

}  // namespace

void bind_plan(py::module_& m) {
  py::class_<plan::Plan>(m, "Plan")
      .def(py::init([](const py::list& training, const py::list& inference, const py::list& parameters, Shape input,
                       double clip_grad_norm, std::vector<std::string> without_rules, const std::string& device,
                       int precision) {
        const DeviceScope scope(device == "cuda" ? Device::cuda : Device::cpu);
        Graph graph = to_graph(training, parameters);
        graph.clip_grad_norm = clip_grad_norm;
        return std::make_unique<plan::Plan>(std::move(graph), to_graph(inference, parameters), std::move(input),
                                            std::move(without_rules), precision);
      }))
      .def("train",
           [](plan::Plan& self, py::object x, const py::tuple& gather, py::object y, py::object order, int64_t batch,
              int64_t ignore_index, bool mean, const std::vector<std::pair<uint64_t, uint64_t>>& keys,
              const py::list& groups, const py::list& parameters) {
             const Source source("fit", x, gather);
             const Arg<int64_t> rows = label_arg("fit", "order", order);
             const Memory memory(self, parameters, true);
             plan::TrainingArguments arguments{};
             Arg<int64_t> labels;
             Arg<float> targets;
             if (py::isinstance<py::array_t<float>>(y))
               targets = tensor_arg("fit", "y", y);
             else
               labels = label_arg("fit", "y", y);
             arguments.x = source.source, arguments.labels = labels.array, arguments.targets = targets.array;
             arguments.order = rows.array, arguments.batch = batch;
             arguments.ignore_index = ignore_index, arguments.mean = mean;
             for (const auto& [seed, stream] : keys) arguments.dropout_keys.push_back({seed, stream});
             for (py::handle group : groups)
               arguments.groups.push_back(to_group(py::reinterpret_borrow<py::dict>(group)));
             arguments.parameters = memory.parameters;
             std::vector<plan::StepResult> results;
             {
               py::gil_scoped_release release;
               results = self.train(arguments);
             }
             py::list list;
             for (const auto& r : results) list.append(py::make_tuple(r.loss, r.right, r.targets));
             return list;
           })
      .def("forward",
           [](plan::Plan& self, py::object x, const py::tuple& gather, int64_t batch, const py::list& parameters) {
             const Source source("predict", x, gather);
             const Memory memory(self, parameters, false);
             Tensor y;
             {
               py::gil_scoped_release release;
               y = self.forward(source.source, batch, memory.parameters);
             }
             return to_python(y);
           })
      .def_static("rules",
                  [] {
                    std::vector<std::string> names;
                    for (const plan::Rule& rule : plan::rules()) names.push_back(rule.name);
                    return names;
                  })
      .def("kernel_nodes", &plan::Plan::kernel_nodes, py::call_guard<py::gil_scoped_release>())
      .def("prepare", &plan::Plan::prepare, py::call_guard<py::gil_scoped_release>())
      .def("describe", &plan::Plan::describe, py::call_guard<py::gil_scoped_release>())
      .def("profile", &plan::Plan::profile, py::call_guard<py::gil_scoped_release>())
      .def("memory_bytes", &plan::Plan::memory_bytes, py::call_guard<py::gil_scoped_release>());
}

}  // namespace convcore

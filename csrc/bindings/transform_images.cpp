#include "ops/transform_images.h"

#include "bindings/arrays.h"
#include "bindings/module.h"

namespace convcore {

void bind_transform_images(py::module_& m) {
  using Stages = std::vector<std::pair<std::string, std::vector<double>>>;
  m.def("transform_images",
        [](py::object x, py::object indices, const Stages& stages, uint64_t seed, uint64_t stream, float scale,
           py::object partners, py::object weights, bool to_bytes) -> py::object {
          const char* op = "transform_images";
          const auto xa = pixels_arg(op, "x", x);
          const auto ia = label_arg(op, "indices", indices);
          Arg<int64_t> pa;
          if (!partners.is_none()) pa = label_arg(op, "partners", partners);
          const auto wa = optional_tensor_arg(op, "weights", weights);
          if (pa.array.given() != wa.array.given())
            fail(op, "partners and weights go together", "both or none",
                 pa.array.given() ? "partners only" : "weights only");
          TransformParams params;
          for (const auto& [kind, values] : stages) params.stages.push_back({kind, values});
          params.key = {seed, stream};
          params.scale = scale;
          params.partners = pa.array;
          params.weights = wa.array;
          Tensor floats;
          Array<uint8_t> bytes;
          {
            py::gil_scoped_release release;
            const bool from_bytes = xa.bytes.given();
            if (to_bytes)
              bytes = from_bytes ? transform_images_to_bytes(xa.bytes, ia.array, params)
                                 : transform_images_to_bytes(xa.floats, ia.array, params);
            else
              floats = from_bytes ? transform_images(xa.bytes, ia.array, params)
                                  : transform_images(xa.floats, ia.array, params);
          }
          return to_bytes ? to_python(bytes) : to_python(floats);
        });
  m.def("mixup_pairs",
        [](py::object indices, int64_t count, double alpha, uint64_t seed, uint64_t stream, int64_t use) {
          const auto ia = label_arg("mixup_pairs", "indices", indices);
          Mixup pairs;
          {
            py::gil_scoped_release release;
            pairs = mixup_pairs(ia.array, count, alpha, {seed, stream}, use);
          }
          return py::make_tuple(to_python(pairs.partners), to_python(pairs.weights));
        });
}

}  // namespace convcore

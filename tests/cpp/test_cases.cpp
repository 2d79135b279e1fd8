// The table of shapes that CMake makes from cases.txt; tests/bench/test_cases.py holds the same figures.
#include <string>

#include "bench/cases.h"
#include "helpers.h"

namespace convcore::bench {
namespace {

template <typename Cases>
const auto& find(const Cases& cases, const std::string& name) {
  for (const auto& c : cases)
    if (c.name == name) return c;
  FAIL("no case is called " << name);
  return cases[0];
}

TEST_CASE("the shapes of the benchmarks and what they cost") {
  const ConvCase& conv = find(kConvCases, "resnet20_down2");
  CHECK(conv.size_out() == 16);
  CHECK(conv.cost().flops == int64_t(2) * 128 * 32 * 16 * 16 * 16 * 9);
  CHECK(conv.cost().bytes == 4 * (128 * 16 * 32 * 32 + 32 * 16 * 9 + 128 * 32 * 16 * 16));
  const DenseCase& dense = find(kDenseCases, "lenet5_fc1");
  CHECK(dense.cost().flops == 2 * 64 * 400 * 120);
  CHECK(dense.cost().bytes == 4 * (64 * 400 + 400 * 120 + 64 * 120));
  const PoolCase& pool = find(kPoolCases, "resnet18_pool");
  CHECK(pool.kind == "max");
  CHECK(pool.size_out() == 56);
  CHECK(pool.cost().flops == 16 * 64 * 56 * 56 * 9);
  CHECK(pool.cost().bytes == 4 * 16 * 64 * (112 * 112 + 2 * 56 * 56));
  CHECK(find(kPoolCases, "resnet20_pool").cost().bytes == 4 * 128 * 64 * (64 + 1));
  CHECK(find(kNormCases, "resnet20_norm3").forward_cost().bytes == 8 * 128 * 64 * 64);
  CHECK(find(kNormCases, "resnet20_norm3").backward_cost().bytes == 12 * 128 * 64 * 64);
}

}  // namespace
}  // namespace convcore::bench

// The twins of mma and ldmatrix hold the elements where the PTX ISA says that a GPU does (fragment_maps.txt).
#include "fragment_maps.h"

#include "helpers.h"

namespace convcore::test {
namespace {

using namespace fragments;

Maps recorded(const Maps& right) {
  Maps maps;
  const Floats tf32(kHalves / 2 * kLanes * 4), bf16(kHalves * kLanes * 4);
  cuda::launch("probe_mma", probe_mma<1>, dim3(1), kLanes, 0, tf32.data());
  cuda::launch("probe_mma", probe_mma<2>, dim3(1), kLanes, 0, bf16.data());
  maps.merge(maps_of_mma("mma_tf32", tf32, 1, right));
  maps.merge(maps_of_mma("mma_bf16", bf16, 2, right));
  const Buffer<uint32_t> rows(kLanes * 4);
  cuda::launch("probe_ldmatrix", probe_ldmatrix, dim3(1), kLanes, kProbeShared, rows.data());
  maps["ldmatrix4 D"] = map_of_ldmatrix(rows);
  return maps;
}

TEST_CASE("fragments of mma and ldmatrix") {
  const Maps right = read_maps(CONVCORE_FRAGMENT_MAPS), found = recorded(right);
  for (const auto& [name, map] : right) {
    CAPTURE(name);
    REQUIRE(found.count(name) == 1);
    CHECK(map.size() == found.at(name).size());
    CHECK((map == found.at(name)));
  }
  CHECK(right.size() == found.size());
}

TEST_CASE("fragments: a map that is wrong is found") {
  const Maps right = read_maps(CONVCORE_FRAGMENT_MAPS), found = recorded(right);
  for (const char* name : {"mma_tf32 A", "mma_tf32 B", "mma_tf32 C", "mma_bf16 A", "mma_bf16 B", "mma_bf16 C"}) {
    Maps wrong = right;
    std::swap(wrong[name][{0, 0, 0}], wrong[name][{5, 1, 0}]);  // two rows, and where there are no halves two columns
    CAPTURE(name);
    CHECK(recorded(wrong) != wrong);
  }
}

}  // namespace
}  // namespace convcore::test

// The vector wrapper as the compiler makes it without instruction-set flags: plain x86-64, or NEON.
#define CONVCORE_ISA vec_test
#include "cpu/vec.h"

#include "helpers.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

Vec counting(float first) {
  Vec v;
  for (int i = 0; i < kLanes; i++) v[i] = first + float(i);
  return v;
}

TEST_CASE("a partial load reads, and a partial store writes, that many lanes") {
  for (int64_t count = 0; count <= kLanes; count++) {
    const std::vector<float> in(size_t(count), 7);  // as long as may be read: the sanitizer sees more
    std::vector<float> out(size_t(kLanes), -1);
    const Vec v = load_partial(in.data(), count);
    store_partial(out.data(), counting(1), count);
    const std::vector<int32_t> int_in(size_t(count), 7);
    std::vector<int32_t> int_out(size_t(kLanes), -1);
    const IntVec n = load_int_partial(int_in.data(), count);
    store_int_partial(int_out.data(), lane_numbers() + 1, count);
    for (int i = 0; i < kLanes; i++) {
      CHECK(v[i] == (i < count ? 7 : 0));
      CHECK(n[i] == (i < count ? 7 : 0));
      CHECK(out[size_t(i)] == (i < count ? float(i + 1) : -1));
      CHECK(int_out[size_t(i)] == (i < count ? i + 1 : -1));
    }
  }
}

TEST_CASE("sum adds the halves first, sums does the same for each vector") {
  Vec v{}, rows[kLanes];
  v[0] = 1e8f, v[kLanes / 2] = -1e8f, v[1] = 0.5f;  // neighbours first would lose the half
  CHECK(sum(v) == 0.5f);
  for (int i = 0; i < kLanes; i++) rows[i] = v * float(i);
  const Vec all = sums(rows);
  for (int i = 0; i < kLanes; i++) CHECK(all[i] == 0.5f * float(i));
}

TEST_CASE("transpose") {
  Vec rows[kLanes];
  for (int i = 0; i < kLanes; i++) rows[i] = counting(float(100 * i));
  transpose(rows);
  for (int i = 0; i < kLanes; i++)
    for (int j = 0; j < kLanes; j++) CHECK(rows[i][j] == float(100 * j + i));
}

TEST_CASE("every second number, and two vectors interleaved") {
  for (int64_t count = 1; count <= kLanes; count++) {
    std::vector<float> in(size_t(2 * count - 1));
    for (size_t i = 0; i < in.size(); i++) in[i] = float(i);
    const Vec v = load_every_second(in.data(), count);
    std::vector<float> out(size_t(2 * count));
    store_interleaved(out.data(), counting(0), counting(100), count);
    for (int i = 0; i < count; i++) {
      CHECK(v[i] == float(2 * i));
      CHECK(out[size_t(2 * i)] == float(i));
      CHECK(out[size_t(2 * i + 1)] == float(100 + i));
    }
  }
}

TEST_CASE("any, select, square_root") {
  CHECK_FALSE(any(IntVec{}));
  for (int i = 0; i < kLanes; i++) {
    const IntVec mask = lane_numbers() == i;
    CHECK(any(mask));
    CHECK(sum(select(mask, splat(3), Vec{})) == 3);
    CHECK(square_root(counting(2))[i] == std::sqrt(2 + float(i)));
  }
}

}  // namespace
}  // namespace convcore::cpu::CONVCORE_ISA

// The wording of errors.
#include "core/check.h"

#include "helpers.h"

namespace convcore {
using test::message_of;

TEST_CASE("to_string writes shapes as Python does") {
  CHECK(to_string(Shape{}) == "()");
  CHECK(to_string({7}) == "(7,)");
  CHECK(to_string({8, 1, 28, 28}) == "(8, 1, 28, 28)");
}

TEST_CASE("fail says what, expected, got") {
  CHECK(message_of([] { fail("relu", "x is odd", "even", "odd"); }) == "relu: x is odd: expected even, got odd");
}

TEST_CASE("expect_rank") {
  expect_rank("conv2d", "x", {1, 2, 3, 4}, 4, "(N, C, H, W)");
  CHECK(message_of([] { expect_rank("conv2d", "x", {2, 3}, 4, "(N, C, H, W)"); }) ==
        "conv2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), got 2 (x has shape (2, 3))");
}

TEST_CASE("expect_shape") {
  expect_shape("add", "b", {2, 3}, {2, 3}, "the shape of a");
  CHECK(message_of([] { expect_shape("add", "b", {3}, {2, 3}, "the shape of a"); }) ==
        "add: b has the wrong shape: expected (2, 3) (the shape of a), got (3,)");
}

TEST_CASE("expect_range") {
  expect_range("op", "groups", 1, 1, 4);
  expect_range("op", "groups", 4, 1, 4);
  CHECK(message_of([] { expect_range("op", "groups", 0, 1, 4); }) ==
        "op: groups is out of range: expected at least 1, got 0");
  CHECK(message_of([] { expect_range("op", "groups", 5, 1, 4); }) ==
        "op: groups is out of range: expected at most 4, got 5");
}

TEST_CASE("checked_count multiplies without overflow") {
  const int64_t huge = int64_t(1) << 40;
  CHECK(checked_count("op", "x", {}) == 1);
  CHECK(checked_count("op", "x", {2, 3, 4}) == 24);
  CHECK(checked_count("op", "x", {huge, 0, huge}) == 0);  // empty, whatever the other sizes are
  CHECK(message_of([&] { checked_count("op", "x", {huge, huge}); }) ==
        "op: x is too large: expected at most 2^59 elements, got (1099511627776, 1099511627776)");
  CHECK(message_of([] { checked_count("op", "x", {0, -1}); }) ==
        "op: x has a negative size: expected sizes of at least 0, got (0, -1)");
  CHECK(checked_count("op", "x", {(int64_t(1) << 59) - 1}) == (int64_t(1) << 59) - 1);
  CHECK(message_of([] { checked_count("op", "x", {(int64_t(1) << 59) + 1}); }) != "");
}

}  // namespace convcore

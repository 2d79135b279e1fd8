// Error wording, in one place: "<op>: <argument> <what is wrong>: expected <...>, got <...>".
//
// std::invalid_argument becomes ValueError in Python, TypeError is raised by the bindings (dtypes, non-arrays),
// std::bad_alloc becomes MemoryError. Nothing here aborts or prints.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace convcore {

using Shape = std::vector<int64_t>;

std::string to_string(const Shape& shape);  // "(8, 1, 28, 28)"

// Throws std::invalid_argument "<op>: <problem>: expected <expected>, got <got>".
[[noreturn]] void fail(const std::string& op, const std::string& problem, const std::string& expected,
                       const std::string& got);

// Throws unless `x` has exactly `rank` dimensions; `dims` names them: "(N, C, H, W)".
void expect_rank(const char* op, const char* name, const Shape& x, size_t rank, const char* dims);

// Throws unless the two shapes are equal; `expected_of` says where the expectation comes from.
void expect_shape(const char* op, const char* name, const Shape& got, const Shape& expected, const char* expected_of);

// Throws unless low <= value <= high.
void expect_range(const char* op, const char* name, int64_t value, int64_t low, int64_t high);

// Product of the sizes. Throws std::invalid_argument when one is negative or the product of bytes leaves 63 bits,
// so that no index computed from the shape can overflow an int64_t.
int64_t checked_count(const char* op, const char* name, const Shape& shape);

}  // namespace convcore

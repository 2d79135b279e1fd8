#include "core/check.h"

namespace convcore {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

void fail(const std::string& op, const std::string& problem, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(op + ": " + problem + ": expected " + expected + ", got " + got);
}

void expect_rank(const char* op, const char* name, const Shape& x, size_t rank, const char* dims) {
  if (x.size() == rank) return;
  fail(op, std::string(name) + " has the wrong number of dimensions", std::to_string(rank) + " " + dims,
       std::to_string(x.size()) + " (" + name + " has shape " + to_string(x) + ")");
}

void expect_shape(const char* op, const char* name, const Shape& got, const Shape& expected, const char* expected_of) {
  if (got == expected) return;
  fail(op, std::string(name) + " has the wrong shape", to_string(expected) + " (" + expected_of + ")", to_string(got));
}

void expect_range(const char* op, const char* name, int64_t value, int64_t low, int64_t high) {
  if (low <= value && value <= high) return;
  fail(op, std::string(name) + " is out of range",
       value < low ? "at least " + std::to_string(low) : "at most " + std::to_string(high), std::to_string(value));
}

int64_t checked_count(const char* op, const char* name, const Shape& shape) {
  constexpr int64_t kMaxElements = INT64_MAX / 16;  // bytes of the widest element, with room to spare
  int64_t count = 1;
  bool empty = false;
  for (int64_t size : shape) {
    if (size < 0) fail(op, std::string(name) + " has a negative size", "sizes of at least 0", to_string(shape));
    empty = empty || size == 0;
  }
  if (empty) return 0;
  for (int64_t size : shape)
    if (__builtin_mul_overflow(count, size, &count) || count > kMaxElements)
      fail(op, std::string(name) + " is too large", "at most 2^59 elements", to_string(shape));
  return count;
}

}  // namespace convcore

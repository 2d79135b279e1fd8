// How often the test program asked operator new for memory: steady loops are to ask for none.
#pragma once
#include <cstdint>

namespace convcore::test {

// The sanitizers bring operators of their own, which count nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCountsNews = false;
#else
constexpr bool kCountsNews = true;
#endif

int64_t count_of_news();

}  // namespace convcore::test

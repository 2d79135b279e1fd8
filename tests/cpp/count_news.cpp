// In a file of its own: where the compiler sees these operators and a use of them, it takes malloc and delete for a
// pair that does not match.
#include "count_news.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace convcore::test {
static std::atomic<int64_t> news{0};
int64_t count_of_news() { return news; }
}  // namespace convcore::test

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(std::size_t size) {
  convcore::test::news++;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

// The test program: says which kernels it runs, then runs the tests.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "core/threads.h"
#include "cpu/kernels.h"

#ifdef __SANITIZE_ADDRESS__
// An impossible size is to fail as it does without the sanitizer: with std::bad_alloc.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#endif

int main(int argc, char** argv) {
  std::printf("instruction set %s (reachable: %s), %d threads\n", convcore::cpu::kernels().isa,
              convcore::cpu::reachable_isas(), convcore::num_threads());
  std::fflush(stdout);
  return doctest::Context(argc, argv).run();
}

// The choice of the instruction set, once per process.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"

namespace convcore::cpu {

namespace baseline {
Kernels table();
}
#ifdef CONVCORE_HAVE_AVX2
namespace avx2 {
Kernels table();
}
#endif
#ifdef CONVCORE_HAVE_AVX512
namespace avx512 {
Kernels table();
}
#endif

namespace {

struct Set {
  const char* name;
  Kernels (*table)();
  bool (*runs_here)();  // asks the CPU and, through XGETBV, the operating system
};

const Set kSets[] = {
    {"baseline", baseline::table, [] { return true; }},
#ifdef CONVCORE_HAVE_AVX2
    {"avx2", avx2::table, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#ifdef CONVCORE_HAVE_AVX512
    {"avx512", avx512::table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
     }},
#endif
};

Kernels choose() {
  const char* text = std::getenv("CONVCORE_ISA");
  const std::string cap = text ? text : "";
  const Set* best = &kSets[0];
  bool known = cap.empty();
  for (const Set& set : kSets) {
    if (set.runs_here()) best = &set;
    if (cap == set.name) {
      known = true;
      break;
    }
  }
  if (!known)
    throw std::invalid_argument(
        "CONVCORE_ISA is not a known instruction set: expected one of baseline, avx2, avx512, got '" + cap + "'");
  return best->table();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

const char* reachable_isas() {
  static const std::string names = [] {
    std::string list;
    for (const Set& set : kSets)
      if (set.runs_here()) list += (list.empty() ? "" : ",") + std::string(set.name);
    return list;
  }();
  return names.c_str();
}

}  // namespace convcore::cpu

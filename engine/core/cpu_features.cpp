#include "engine/core/cpu_features.h"

#include <cpuid.h>

namespace ink {
namespace {

// g++ 12 has no name for AMX in __builtin_cpu_supports: leaf 7, EDX bit 22 (AMX-BF16) and 24
// (AMX-TILE).
bool read_amx_bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  return (edx & (1u << 22)) != 0 && (edx & (1u << 24)) != 0;
}

}  // namespace

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
}

bool has_avx512_bf16() {
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return has;
}

bool has_amx_bf16() {
  static const bool has = read_amx_bf16();
  return has;
}

std::string instruction_set() {
  std::string text = has_avx512() ? "avx512" : has_avx2() ? "avx2" : "x86-64";
  if (has_avx512_bf16()) text += "+bf16";
  if (has_amx_bf16()) text += "+amx";
  return text;
}

}  // namespace ink

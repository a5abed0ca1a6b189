// Kernels report their accesses: g++ -fsanitize=thread puts a call of one of these functions before
// every access to memory that others may see. They are the interface of its run-time library, which
// is not linked. Host code of the same files calls them too, outside of any block.
#include <cstddef>

#include "tests/support/cuda_on_cpu/races.h"

namespace ink::cuda_on_cpu {
namespace {

[[maybe_unused]] const bool following = (Races::follow(), true);

inline void report(Races::Access access, const void* at, std::size_t bytes, const void* place) {
  if (Races* races = Races::current())
    races->access(Races::Actor::kThread, access, at, bytes, place);
}

}  // namespace
}  // namespace ink::cuda_on_cpu

using ink::cuda_on_cpu::report;
using Access = ink::cuda_on_cpu::Races::Access;

extern "C" {
void __tsan_init() {}
void __tsan_read1(void* at) { report(Access::kRead, at, 1, __builtin_return_address(0)); }
void __tsan_read2(void* at) { report(Access::kRead, at, 2, __builtin_return_address(0)); }
void __tsan_read4(void* at) { report(Access::kRead, at, 4, __builtin_return_address(0)); }
void __tsan_read8(void* at) { report(Access::kRead, at, 8, __builtin_return_address(0)); }
void __tsan_read16(void* at) { report(Access::kRead, at, 16, __builtin_return_address(0)); }
void __tsan_write1(void* at) { report(Access::kWrite, at, 1, __builtin_return_address(0)); }
void __tsan_write2(void* at) { report(Access::kWrite, at, 2, __builtin_return_address(0)); }
void __tsan_write4(void* at) { report(Access::kWrite, at, 4, __builtin_return_address(0)); }
void __tsan_write8(void* at) { report(Access::kWrite, at, 8, __builtin_return_address(0)); }
void __tsan_write16(void* at) { report(Access::kWrite, at, 16, __builtin_return_address(0)); }
void __tsan_read_range(void* at, std::size_t bytes) {
  report(Access::kRead, at, bytes, __builtin_return_address(0));
}
void __tsan_write_range(void* at, std::size_t bytes) {
  report(Access::kWrite, at, bytes, __builtin_return_address(0));
}
// Of the host's part of those files: virtual functions, shared pointers, counters.
void __tsan_vptr_update(void**, void*) {}
int __tsan_atomic32_fetch_add(volatile int* at, int value, int) {
  return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
long __tsan_atomic64_load(const volatile long* at, int) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
void __tsan_atomic64_store(volatile long* at, long value, int) {
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
}

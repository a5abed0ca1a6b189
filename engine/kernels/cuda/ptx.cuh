// Instructions that CUDA C++ has no name for, one small function each: tensor-core products,
// ldmatrix, asynchronous copies, exp2. Inline PTX is here and in ptx_hopper.cuh alone.
//
// Facts from "Parallel Thread Execution ISA", sections on mma, ldmatrix and cp.async. On the host
// (ptx_on_cpu.cuh) every function has a twin written from the same tables. In a fragment g = lane /
// 4 and t = lane % 4.
#pragma once

#include "engine/kernels/cuda/device.cuh"

#ifdef INKSTONE_CUDA_ON_CPU
#include "engine/kernels/cuda/ptx_on_cpu.cuh"
#else

namespace ink::ptx {

[[nodiscard]] __device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// d (16 x 8, f32) += a (16 x 8, f16) b (8 x 8, f16).
//   a[0]: row g, columns 2t and 2t + 1     a[1]: row g + 8     b: rows 2t and 2t + 1, column g
//   d[0], d[1]: row g, columns 2t and 2t + 1     d[2], d[3]: row g + 8
__device__ __forceinline__ void mma_16x8x8_f16(float (&d)[4], uint32_t a0, uint32_t a1,
                                               uint32_t b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(b));
}

// d (16 x 8, f32) += a (16 x 16) b (16 x 8), operands bf16 (sm_80) or f16.
//   a[0], a[1]: columns 2t and 2t + 1 of rows g and g + 8     a[2], a[3]: columns 2t + 8, 2t + 9
//   b0: rows 2t and 2t + 1, column g     b1: rows 2t + 8 and 2t + 9     d: as above
template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1);
template <>
__device__ __forceinline__ void mma_16x8x16<f16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  mma_16x8x8_f16(d, a[0], a[1], b0);
  mma_16x8x8_f16(d, a[2], a[3], b1);
#endif
}
// There is no bf16 on sm_75: `supports` keeps such a launch away.
template <>
__device__ __forceinline__ void mma_16x8x16<bf16>(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  (void)d, (void)a, (void)b0, (void)b1;
  __trap();
#endif
}

// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane l brings the address of row l % 8
// of matrix l / 8 (16 bytes, aligned); r[i] is elements 2t and 2t + 1 of row g of matrix i.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, each matrix transposed: r[i] is rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Are copies really asynchronous? A constant of every compilation for a card.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kAsyncCopies = false;
#else
inline constexpr bool kAsyncCopies = true;
#endif

// Copies kBytes (4 or 16, aligned) to shared memory, or writes zeros and reads nothing where there
// is no source. Done after the wait for its group; on sm_75 at once.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool there) {
  static_assert(kBytes == 4 || kBytes == 16);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(there ? 16 : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(there ? 4 : 0)
                 : "memory");
  }
#else
  using Word = Pack<uint32_t, kBytes / 4>;
  Word word{};
  if (there) word = *static_cast<const Word*>(global);
  *static_cast<Word*>(shared) = word;
#endif
}
// Closes a group of the thread's copies.
__device__ __forceinline__ void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most kGroups of the thread's groups, the last ones, are on their way.
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

// The lane, not moved out of a loop: what is computed from it does not wait in registers either.
[[nodiscard]] __device__ __forceinline__ int lane_read_here() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// 2^x to 2 ulp; 2^-infinity is 0.
[[nodiscard]] __device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two elements in one register, the first in the lower half.
template <class T>
[[nodiscard]] __device__ __forceinline__ uint32_t pack_pair(float first, float second);
template <>
[[nodiscard]] __device__ __forceinline__ uint32_t pack_pair<f16>(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return reinterpret_cast<const uint32_t&>(pair);
}
template <>
[[nodiscard]] __device__ __forceinline__ uint32_t pack_pair<bf16>(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return reinterpret_cast<const uint32_t&>(pair);
}

}  // namespace ink::ptx
#endif

// What a kernel file needs to compile as C++: qualifiers, built-in variables, vector types,
// barriers, shuffles, atomics and the intrinsics in use.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/support/cuda_on_cpu/block.h"

#define INKSTONE_CUDA_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)

// Of the thread that runs now; block.cpp sets them before it takes its turn.
extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
inline constexpr int warpSize = 32;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned int x, y;
};
struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

inline void __syncthreads() { ink::cuda_on_cpu::Block::current().sync_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ink::cuda_on_cpu::Block::current().sync_warp(mask);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  auto& block = ink::cuda_on_cpu::Block::current();
  const int base = block.lane() / width * width;
  return block.warp_collective(mask, value,
                               [&](auto of) { return of(base + (source & (width - 1))); });
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  auto& block = ink::cuda_on_cpu::Block::current();
  const int from = block.lane() ^ lanes;
  const bool inside = from / width == block.lane() / width;
  return block.warp_collective(mask, value, [&](auto of) { return inside ? of(from) : value; });
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  auto& block = ink::cuda_on_cpu::Block::current();
  const int from = block.lane() + static_cast<int>(delta);
  const bool inside = from / width == block.lane() / width;
  return block.warp_collective(mask, value, [&](auto of) { return inside ? of(from) : value; });
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  auto& block = ink::cuda_on_cpu::Block::current();
  const int from = block.lane() - static_cast<int>(delta);
  const bool inside = from >= 0 && from / width == block.lane() / width;
  return block.warp_collective(mask, value, [&](auto of) { return inside ? of(from) : value; });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ink::cuda_on_cpu::Block::current().warp_collective(mask, predicate, [&](auto of) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1u) votes |= (of(lane) != 0 ? 1u : 0u) << lane;
    }
    return votes;
  });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

// Threads of a launch never run at the same time, so a plain update is atomic. It is no plain
// access of the kernel's: no_sanitize.
template <class T>
[[gnu::no_sanitize("thread")]] inline T atomicAdd(T* address, T value) {
  ink::cuda_on_cpu::Block::current().update_atomically(address, sizeof(T));
  const T before = *address;
  *address = before + value;
  return before;
}
template <class T>
[[gnu::no_sanitize("thread")]] inline T atomicMax(T* address, T value) {
  ink::cuda_on_cpu::Block::current().update_atomically(address, sizeof(T));
  const T before = *address;
  if (value > before) *address = value;
  return before;
}

template <class T>
inline T __ldg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
inline void __stcs(T* address, T value) {
  *address = value;
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((uint64_t{a} * b) >> 32);
}
template <class T>
inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max(T a, T b) {
  return a < b ? b : a;
}

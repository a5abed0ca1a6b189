// What device code of all kernels shares: 16-byte loads and stores, conversions, sums over a warp
// and a block, shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/core/dtype.h"

#ifndef INKSTONE_CUDA_ON_CPU
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace ink {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;

// Of a block whose threads are counted by threadIdx.x alone.
__device__ __forceinline__ int thread_of_block() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int lane_of_warp() { return thread_of_block() % kWarpSize; }
__device__ __forceinline__ int warp_of_block() { return thread_of_block() / kWarpSize; }

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ __forceinline__ float to_float(f16 x) {
#ifdef INKSTONE_CUDA_ON_CPU
  return static_cast<float>(x);
#else
  return __half2float(__ushort_as_half(x.bits));
#endif
}

// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
#ifdef INKSTONE_CUDA_ON_CPU
  return bf16(x);
#else
  bf16 y;
  y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return y;
#endif
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
#ifdef INKSTONE_CUDA_ON_CPU
  return f16(x);
#else
  f16 y;
  y.bits = __half_as_ushort(__float2half_rn(x));
  return y;
#endif
}

// N elements moved by one instruction: at most 16 bytes, at a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(sizeof(T) * N <= 16, "rows are aligned to 16 bytes at most");
  T v[N];
};
template <class T>
inline constexpr int kPackOf16Bytes = 16 / static_cast<int>(sizeof(T));

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
    value += __shfl_xor_sync(kFullMask, value, lanes);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, lanes));
  return value;
}

// The block's shared memory, uninitialised, as the struct whose size its launch passed.
template <class S>
__device__ __forceinline__ S& shared_memory() {
#ifdef INKSTONE_CUDA_ON_CPU
  return *static_cast<S*>(cuda_on_cpu::Block::current().shared());
#else
  extern __shared__ __align__(1024) unsigned char shared_bytes[];  // swizzles go by the address
  return *reinterpret_cast<S*>(shared_bytes);
#endif
}

// One value per warp, for block_sum and block_max; T is float or double.
template <class T>
struct BlockScratch {
  T per_warp[kWarpSize];
};

// The sum over the block, in every thread, in an order that does not depend on timing. All threads
// call it; the scratch may be used again at once. The block is a whole number of warps.
template <class T>
__device__ __forceinline__ T block_sum(T value, BlockScratch<T>& scratch) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = warp_sum(value);
  if (lane == 0) scratch.per_warp[warp] = value;
  __syncthreads();
  value = warp_sum(lane < warps ? scratch.per_warp[lane] : T{0});
  __syncthreads();
  return value;
}

__device__ __forceinline__ float block_max(float value, BlockScratch<float>& scratch) {
  const int lane = lane_of_warp(), warp = warp_of_block();
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = warp_max(value);
  if (lane == 0) scratch.per_warp[warp] = value;
  __syncthreads();
  value = warp_max(lane < warps ? scratch.per_warp[lane] : -INFINITY);
  __syncthreads();
  return value;
}

}  // namespace ink

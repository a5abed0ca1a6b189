// Kernels that give a row to a block: what a thread keeps of its row between two passes, the
// launch, and elements of any float type as floats.
#pragma once

#include <algorithm>
#include <limits>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/matrix.h"

namespace ink {

template <int N>
struct Floats {
  float v[N];
};

template <class T, int N>
__device__ __forceinline__ Floats<N> to_floats(const Pack<T, N>& pack) {
  Floats<N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out.v[i] = to_float(pack.v[i]);
  return out;
}

// N elements in accesses of 16 bytes or, when they are fewer bytes, in one. The address is a
// multiple of an access.
template <int N, class T>
__device__ __forceinline__ Floats<N> load_floats(const T* from) {
  constexpr int kAccess = N < kPackOf16Bytes<T> ? N : kPackOf16Bytes<T>;
  Floats<N> out;
#pragma unroll
  for (int first = 0; first < N; first += kAccess) {
    const auto pack = load_pack<kAccess>(from + first);
#pragma unroll
    for (int i = 0; i < kAccess; ++i) out.v[first + i] = to_float(pack.v[i]);
  }
  return out;
}
template <class T, int N>
__device__ __forceinline__ void store_floats(T* to, const Floats<N>& values) {
  constexpr int kAccess = N < kPackOf16Bytes<T> ? N : kPackOf16Bytes<T>;
#pragma unroll
  for (int first = 0; first < N; first += kAccess) {
    Pack<T, kAccess> pack;
#pragma unroll
    for (int i = 0; i < kAccess; ++i) pack.v[i] = from_float<T>(values.v[first + i]);
    store_pack(to + first, pack);
  }
}

// A thread keeps its first accesses of the row in registers, all loaded before the first is used.
// What a very wide row has beyond that is read again.
inline constexpr int kKeptAccesses = 4;
inline constexpr int kMaxRowThreads = 512;

// f(j, c): access number j < kKeptAccesses begins at column c. N divides C.
template <int N, class F>
__device__ __forceinline__ void for_kept(int C, F f) {
#pragma unroll
  for (int j = 0; j < kKeptAccesses; ++j) {
    const int c = (j * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * N;
    if (c < C) f(j, c);
  }
}
// f(c) for the accesses that are not kept.
template <int N, class F>
__device__ __forceinline__ void for_rest(int C, F f) {
  const int threads = static_cast<int>(blockDim.x);
  for (int c = (kKeptAccesses * threads + static_cast<int>(threadIdx.x)) * N; c < C;
       c += threads * N)
    f(c);
}

// Columns of a row kernel; its indices are 32 bits wide.
[[nodiscard]] inline int row_columns(int64_t cols) {
  CHECK(cols <= std::numeric_limits<int>::max() / 2, "rows of {} columns", cols);
  return static_cast<int>(cols);
}

[[nodiscard]] inline LaunchShape row_launch(int64_t rows, int64_t cols, int per_access,
                                            int64_t shared_bytes) {
  const int64_t per_thread = int64_t{per_access} * kKeptAccesses;
  const int64_t warps = (cols + per_thread * kWarpSize - 1) / (per_thread * kWarpSize);
  const int64_t threads = std::clamp<int64_t>(warps * kWarpSize, kWarpSize, kMaxRowThreads);
  return {.grid = dim3(cols == 0 ? 0 : blocks_for(rows, 1), 1, 1),
          .block = dim3(static_cast<unsigned>(threads), 1, 1),
          .shared_bytes = shared_bytes};
}

// Every row of every operand may be read in accesses of `elements`, 16 bytes of the narrowest
// dtype.
template <class... Tensors>
[[nodiscard]] bool packed_rows(int64_t elements, const Tensor& first, const Tensors&... others) {
  const int64_t rows = first.rows();
  return first.cols() % elements == 0 && rows_on_16_bytes(first, rows) &&
         (rows_on_16_bytes(others, rows) && ...);
}

}  // namespace ink

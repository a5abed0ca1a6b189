// Tiles of the plain attention kernels: f32 arithmetic for any dtype and any head_dim. A block has
// kWarps warps; warp w owns rows w, w + 4, ... of its tile of 32, so that few rows keep every warp
// at work, a lane one of 32 columns of the scores and every 32nd column of a sum. Columns of a head
// beyond kColumns are staged in chunks.
#pragma once

#include "engine/kernels/cuda/attention_place.cuh"
#include "engine/kernels/cuda/rows.cuh"

namespace ink::plain {

inline constexpr int kTile = 32;
inline constexpr int kWarps = 4;
inline constexpr int kRowsPerWarp = kTile / kWarps;
inline constexpr int kThreads = kWarps * kWarpSize;

// The tile's row that is row r of this warp.
__device__ __forceinline__ int row_of_warp(int r) { return warp_of_block() + kWarps * r; }

// 16-byte reads of one column range by 32 lanes, a row each, fall into different banks.
template <int kColumns>
struct alignas(16) Stage {
  static constexpr int kStride = kColumns + 4;
  float data[kTile * kStride];
  __device__ __forceinline__ float* row(int r) { return data + r * kStride; }
  __device__ __forceinline__ const float* row(int r) const { return data + r * kStride; }
};

// What a warp hands from one product to the next.
struct alignas(16) Weights {
  float data[kWarps][kRowsPerWarp][kTile];
};

// Columns [first, first + kColumns) of rows [0, there); zeros elsewhere. kPack elements are read at
// once. All threads call it.
template <int kPack, int kColumns, class Source>
__device__ __forceinline__ void load_packs(Stage<kColumns>& stage, int there, int first, int dim,
                                           Source source) {
#pragma unroll 4
  for (int i = thread_of_block() * kPack; i < kTile * kColumns; i += kThreads * kPack) {
    const int row = i / kColumns, column = i % kColumns;
    float* to = stage.row(row) + column;
    store_floats(to, row < there && first + column < dim
                         ? load_floats<kPack>(source(row) + first + column)
                         : Floats<kPack>{});
  }
}
template <class T, int kColumns, class Source>
__device__ __forceinline__ void load_stage(Stage<kColumns>& stage, int there, int first, int dim,
                                           bool packed, Source source) {
  if (packed) {
    load_packs<kPackOf16Bytes<T>>(stage, there, first, dim, source);
  } else {
    load_packs<1>(stage, there, first, dim, source);
  }
}

// s[r] += <row r of the warp's rows, the lane's row>.
template <int kRows, int kColumns>
__device__ __forceinline__ void add_dots(float (&s)[kRows], const Stage<kColumns>& rows,
                                         const Stage<kColumns>& columns) {
  const int lane = lane_of_warp();
#pragma unroll 4
  for (int c = 0; c < kColumns; c += 4) {
    const auto x = load_pack<4>(columns.row(lane) + c);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const auto y = load_pack<4>(rows.row(row_of_warp(r)) + c);
#pragma unroll
      for (int i = 0; i < 4; ++i) s[r] += x.v[i] * y.v[i];
    }
  }
}

// sum[r][j] += weight of (row r, n) times element (lane + 32 j) of row n of the stage, n by n.
template <int kRows, int kColumns>
__device__ __forceinline__ void add_weighted(float (&sum)[kRows][kColumns / kWarpSize],
                                             const float (&weight)[kRows], Weights& shared,
                                             const Stage<kColumns>& stage) {
  const int lane = lane_of_warp();
  auto& mine = shared.data[warp_of_block()];
  __syncwarp();
#pragma unroll
  for (int r = 0; r < kRows; ++r) mine[r][lane] = weight[r];
  __syncwarp();
#pragma unroll 2
  for (int n = 0; n < kTile; n += 4) {
    Pack<float, 4> w[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) w[r] = load_pack<4>(mine[r] + n);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns / kWarpSize; ++j) {
        const float x = stage.row(n + i)[lane + kWarpSize * j];
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum[r][j] += w[r].v[i] * x;
      }
    }
  }
}

// Columns lane + 32 j of the chunk that starts at `first`.
template <class T, int kColumns>
__device__ __forceinline__ void store_row(const float (&sum)[kColumns / kWarpSize], float factor,
                                          int first, int dim, T* to) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int j = 0; j < kColumns / kWarpSize; ++j) {
    const int column = first + lane + kWarpSize * j;
    if (column < dim) to[column] = from_float<T>(sum[j] * factor);
  }
}

// Calls f.operator()<kColumns>() with the narrowest chunk, up to kMax, that holds a head.
template <int kMax, class F>
void visit_columns(int64_t head_dim, F&& f) {
  if (head_dim <= 32) return f.template operator()<32>();
  if constexpr (kMax > 64) {
    if (head_dim > 64) return f.template operator()<128>();
  }
  f.template operator()<64>();
}

}  // namespace ink::plain

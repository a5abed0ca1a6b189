// Tiles in shared memory and their tensor-core products, for the flash attention kernels. T is bf16
// or f16; a warp owns 16 * kM rows of every product.
#pragma once

#include "engine/kernels/cuda/attention_place.cuh"
#include "engine/kernels/cuda/ptx.cuh"

namespace ink {

inline constexpr int kFlashWarps = 4;
inline constexpr int kFlashThreads = kFlashWarps * kWarpSize;
inline constexpr float kLog2E = 1.4426950408889634f;

// The part of a tile that a warp owns: rows [row, row + 16 kM). A thread has rows row_of(m, 0) and
// row_of(m, 1) of every fragment.
template <int kM>
struct WarpRows {
  int row;
  int32_t first_position = 0, last_position = -1;

  __device__ __forceinline__ WarpRows(const RowTile& tile, int first_row) : row(first_row) {
    const int last = tile.count - 1 < row + 16 * kM - 1 ? tile.count - 1 : row + 16 * kM - 1;
    if (row < tile.count) first_position = tile.position(row), last_position = tile.position(last);
  }
  // Is any of the rows there?
  [[nodiscard]] __device__ __forceinline__ bool any() const { return last_position >= 0; }
  [[nodiscard]] __device__ __forceinline__ int row_of(int m, int half) const {
    return row + 16 * m + 8 * half + lane_of_warp() / 4;
  }
  // Takes out the scores of keys [first, ...) that come after their row.
  template <int kN>
  __device__ __forceinline__ void mask(const RowTile& tile, int32_t first,
                                       float (&s)[kM][kN][4]) const {
    const int32_t key = first + ptx::lane_read_here() % 4 * 2;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t position = tile.position(row_of(m, half));
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          if (key + 8 * n > position) s[m][n][2 * half] = -INFINITY;
          if (key + 8 * n + 1 > position) s[m][n][2 * half + 1] = -INFINITY;
        }
      }
    }
  }
};

// Takes out the scores of keys [first_key, ...) that come after their row; keys are the rows of s.
template <int kM, int kN>
__device__ __forceinline__ void mask_keys(const RowTile& rows, int32_t first_key,
                                          float (&s)[kM][kN][4]) {
  const int lane = ptx::lane_read_here();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t position = rows.position(8 * n + lane % 4 * 2 + i % 2);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if (first_key + 16 * m + 8 * (i / 2) + lane / 4 > position) s[m][n][i] = -INFINITY;
      }
    }
  }
}

// Rows of kDim elements. The 16-byte chunks of a row are permuted by the row's number, so that the
// eight rows of an ldmatrix, a multiple of 128 bytes apart, lie in eight different groups of banks.
template <class T, int kRows_, int kDim>
struct alignas(128) Tile {
  static constexpr int kRows = kRows_, kChunk = 8, kChunks = kDim / kChunk;
  T data[kRows * kDim];

  __device__ __forceinline__ T* chunk(int row, int index) {
    return data + row * kDim + (index ^ (row & 7)) * kChunk;
  }
  __device__ __forceinline__ const T* chunk(int row, int index) const {
    return data + row * kDim + (index ^ (row & 7)) * kChunk;
  }
};

// Starts the copy of rows [0, there) from source(row); the rest of the tile gets zeros, source(row)
// is then an address that nobody reads. The first kFlashThreads threads of the block call it.
template <class AnyTile, class Source>
__device__ __forceinline__ void load_tile(AnyTile& tile, int there, Source source) {
  constexpr int kChunks = AnyTile::kChunks;
  constexpr int kRowsAtOnce = kFlashThreads / kChunks;
  static_assert(AnyTile::kRows % kRowsAtOnce == 0);
  const int chunk = thread_of_block() % kChunks;
#pragma unroll 4
  for (int row = thread_of_block() / kChunks; row < AnyTile::kRows; row += kRowsAtOnce)
    ptx::copy_async<16>(tile.chunk(row, chunk), source(row) + chunk * 8, row < there);
}
// The same for the rows of a group of heads.
template <class AnyTile, class T>
__device__ __forceinline__ void load_rows(AnyTile& tile, const RowTile& rows,
                                          const Heads<T>& group) {
  load_tile(tile, rows.count, [&](int row) { return rows.in(group, row); });
}

// Fragments of 16 rows and 16 columns as the left operand (ptx.cuh).
template <class T, int kRows, int kDim>
__device__ __forceinline__ void load_left(uint32_t (&a)[4], const Tile<T, kRows, kDim>& tile,
                                          int row, int step, int lane) {
  ptx::ldmatrix_x4(a, tile.chunk(row + lane % 16, 2 * step + lane / 16));
}
// Two right operands of 8 columns each out of tile^T: b[0], b[1] for rows [row, row + 8) of the
// tile, b[2], b[3] for the next eight.
template <class T, int kRows, int kDim>
__device__ __forceinline__ void load_right_transposed(uint32_t (&b)[4],
                                                      const Tile<T, kRows, kDim>& tile, int row,
                                                      int step, int lane) {
  ptx::ldmatrix_x4(b, tile.chunk(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}
// The same out of the tile itself: rows [row, row + 16) and columns [16 * columns, + 8), then the
// next eight columns.
template <class T, int kRows, int kDim>
__device__ __forceinline__ void load_right(uint32_t (&b)[4], const Tile<T, kRows, kDim>& tile,
                                           int row, int columns, int lane) {
  ptx::ldmatrix_x4_transposed(b, tile.chunk(row + lane % 16, 2 * columns + lane / 16));
}

// c[16 kM, kN] as fragments: c[m][n][i], i as in ptx.cuh.
template <int kM, int kN>
__device__ __forceinline__ void clear(float (&c)[kM][kN][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0f;
    }
  }
}

// c += a[row, + 16 kM) b^T over all columns.
template <class T, int kM, int kN, int kRowsA, int kRowsB, int kDim>
__device__ __forceinline__ void multiply_transposed(float (&c)[kM][kN][4],
                                                    const Tile<T, kRowsA, kDim>& a, int row,
                                                    const Tile<T, kRowsB, kDim>& b) {
  static_assert(kN * 8 == kRowsB);
  const int lane = ptx::lane_read_here();
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) load_left(left[m], a, row + 16 * m, step, lane);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      load_right_transposed(right, b, 8 * n, step, lane);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        ptx::mma_16x8x16<T>(c[m][n], left[m], right[0], right[1]);
        ptx::mma_16x8x16<T>(c[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// c += p b, p [16 kM, rows of b] in registers, rounded to T: the accumulator of one product has the
// layout of the left operand of the next.
template <class T, int kM, int kN, int kK, int kRowsB, int kDim>
__device__ __forceinline__ void multiply_registers(float (&c)[kM][kN][4],
                                                   const float (&p)[kM][kK][4],
                                                   const Tile<T, kRowsB, kDim>& b) {
  static_assert(kK * 8 == kRowsB && kN * 8 == kDim);
  const int lane = ptx::lane_read_here();
#pragma unroll
  for (int k = 0; k < kK; k += 2) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        left[m][i] = ptx::pack_pair<T>(p[m][k + i / 2][i % 2 * 2], p[m][k + i / 2][i % 2 * 2 + 1]);
    }
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      load_right(right, b, 8 * k, n / 2, lane);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        ptx::mma_16x8x16<T>(c[m][n], left[m], right[0], right[1]);
        ptx::mma_16x8x16<T>(c[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// Writes the warp's rows [row, row + 16 kM) of c, times factor of their row, to memory by way of a
// tile whose rows only this warp reads. Rows from `there` on are nobody's.
template <class T, int kM, int kN, class AnyTile, class Target>
__device__ __forceinline__ void store_rows(const float (&c)[kM][kN][4],
                                           const float (&factor)[kM][2], AnyTile& tile, int row,
                                           int there, Target target) {
  const int lane = lane_of_warp();
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        T* chunk = tile.chunk(row + 16 * m + 8 * half + lane / 4, n) + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(chunk) = ptx::pack_pair<T>(
            c[m][n][2 * half] * factor[m][half], c[m][n][2 * half + 1] * factor[m][half]);
      }
    }
  }
  __syncwarp();
  constexpr int kChunks = AnyTile::kChunks;
#pragma unroll
  for (int i = 0; i < 16 * kM * kChunks / kWarpSize; ++i) {
    const int at = i * kWarpSize + lane, r = row + at / kChunks, chunk = at % kChunks;
    if (r < there) store_pack(target(r) + chunk * 8, load_pack<8>(tile.chunk(r, chunk)));
  }
}
// The same with one factor for all rows.
template <class T, int kM, int kN, class AnyTile, class Target>
__device__ __forceinline__ void store_rows(const float (&c)[kM][kN][4], float factor, AnyTile& tile,
                                           int row, int there, Target target) {
  float same[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) same[m][0] = same[m][1] = factor;
  store_rows<T>(c, same, tile, row, there, target);
}

}  // namespace ink

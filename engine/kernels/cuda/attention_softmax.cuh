// Softmax over keys that come tile by tile (Milakov and Gimelshein, "Online normalizer calculation
// for softmax", 2018), for the flash forward kernels: scores and sums are fragments of a warp.
#pragma once

#include "engine/kernels/cuda/attention_forward.h"
#include "engine/kernels/cuda/attention_tiles.cuh"

namespace ink {

// Running maximum and sum of every row that a thread has a part of.
template <int kM>
struct OnlineSoftmax {
  float most[kM][2], sum[kM][2];

  __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) most[m][half] = -INFINITY, sum[m][half] = 0.0f;
    }
  }

  // Scores become probabilities relative to the new maximum; what was summed up with the old one
  // must be multiplied by `shrink`. A row has seen a key by then. The sum stays per thread.
  template <int kN>
  __device__ __forceinline__ void add(float (&s)[kM][kN][4], float scale_log2,
                                      float (&shrink)[kM][2]) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float now = most[m][half];
#pragma unroll
        for (int n = 0; n < kN; ++n)
          now = fmaxf(now, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        now = fmaxf(now, __shfl_xor_sync(kFullMask, now, 1));
        now = fmaxf(now, __shfl_xor_sync(kFullMask, now, 2));
        shrink[m][half] = ptx::exp2_approx((most[m][half] - now) * scale_log2);
        most[m][half] = now;
        float total = sum[m][half] * shrink[m][half];
        const float shift = now * scale_log2;
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            s[m][n][i] = ptx::exp2_approx(s[m][n][i] * scale_log2 - shift);
            total += s[m][n][i];
          }
        }
        sum[m][half] = total;
      }
    }
  }

  // The row's whole sum in all four threads that share it.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum[m][half] += __shfl_xor_sync(kFullMask, sum[m][half], 1);
        sum[m][half] += __shfl_xor_sync(kFullMask, sum[m][half], 2);
      }
    }
  }
};

// Every row of c times its factor.
template <int kM, int kN>
__device__ __forceinline__ void scale_rows(float (&c)[kM][kN][4], const float (&factor)[kM][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][n][i] *= factor[m][i / 2];
    }
  }
}

// The warp's rows of the result: o over the sums, and log-sum-exp. The tile is one that no other
// warp reads these rows of.
template <class T, int kM, int kN, class AnyTile>
__device__ __forceinline__ void store_attention(const ForwardArguments<T>& a,
                                                const BlockPlace& place, const RowTile& rows,
                                                const WarpRows<kM>& mine, OnlineSoftmax<kM>& state,
                                                const float (&o)[kM][kN][4], AnyTile& tile) {
  state.finish();
  float inverse[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      inverse[m][half] = 1.0f / state.sum[m][half];
      const int row = mine.row_of(m, half);
      if (a.lse == nullptr || lane_of_warp() % 4 != 0 || row >= rows.count) continue;
      a.lse[rows.statistic(place.head, a.tokens, row)] =
          state.most[m][half] * a.scale + logf(state.sum[m][half]);
    }
  }
  const Heads<T> out = place.group<8 * kN>(a.out);
  store_rows<T>(o, inverse, tile, mine.row, rows.count, [&](int row) { return rows.in(out, row); });
}

}  // namespace ink

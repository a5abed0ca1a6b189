// dK and dV of flash attention: a block takes a tile of keys through all rows that see it, head by
// head of the group, so the sum over a group has one order. Four products of 2 D flops per visible
// pair; q and dout come from L2, two tiles in flight on sm_80. The keys are the rows of every
// fragment: S^T = K Q^T and (dO V^T)^T = V dO^T come out as the left operands of dV = P^T dO and
// dK = dS^T Q, and never leave the registers.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_tiles.cuh"

namespace ink {
namespace {

template <class T, int kDim_, int kM_, int kRows_, int kStages_>
struct KeyTiles {
  using Type = T;
  static constexpr int kDim = kDim_, kM = kM_, kRows = kRows_, kStages = kStages_;
  static constexpr int kKeys = 16 * kM * kFlashWarps;
  struct Stage {
    Tile<T, kRows, kDim> q, dout;
    float lse[kRows], delta[kRows];
  };
  struct Shared {
    Tile<T, kKeys, kDim> k, v;
    Stage stage[kStages];
  };
};

// P^T and dS^T in place of S^T and (dO V^T)^T: fragments [keys, rows of the stage].
template <class C>
__device__ __forceinline__ void key_gradients(float (&s)[C::kM][C::kRows / 8][4],
                                              float (&ds)[C::kM][C::kRows / 8][4],
                                              const typename C::Stage& stage, float scale_log2) {
  const int column = lane_of_warp() % 4 * 2;
#pragma unroll
  for (int n = 0; n < C::kRows / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = 8 * n + column + i % 2;
      const float lse = stage.lse[row] * kLog2E, delta = stage.delta[row];
#pragma unroll
      for (int m = 0; m < C::kM; ++m) {
        s[m][n][i] = ptx::exp2_approx(s[m][n][i] * scale_log2 - lse);
        ds[m][n][i] = s[m][n][i] * (ds[m][n][i] - delta);
      }
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kFlashThreads)
    backward_keys(BackwardArguments<typename C::Type> a) {
  using T = typename C::Type;
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const AttentionItem& item = place.item;
  const int32_t first_key = item.tile * C::kKeys, keys = item.keys - first_key;
  const auto at_key = [kv_head = place.kv_head,
                       first = item.first_query + first_key](const auto& heads) {
    return [=](int row) { return heads.at(first + row, kv_head); };
  };
  load_tile(shared.k, keys, at_key(a.k));
  load_tile(shared.v, keys, at_key(a.v));

  const auto q = place.group<C::kDim>(a.q), dout = place.group<C::kDim>(a.dout);
  const auto load_stage = [&](typename C::Stage& stage, const RowTile& rows) {
    load_rows(stage.q, rows, q);
    load_rows(stage.dout, rows, dout);
    static_assert(2 * C::kRows <= kFlashThreads);
    const int row = thread_of_block() % C::kRows, which = thread_of_block() / C::kRows;
    if (which < 2) {
      const int64_t from = rows.statistic(place.head, a.tokens, row);
      ptx::copy_async<4>((which == 0 ? stage.lse : stage.delta) + row,
                         (which == 0 ? a.lse : a.delta) + from, row < rows.count);
    }
    ptx::commit_copies();
  };
  // The first row that sees the tile's first key starts the first tile of rows.
  const int32_t ratio = place.ratio.divisor();
  const int32_t first_row = first_key * ratio, all_rows = item.queries * ratio;
  const auto rows_at = [&](int32_t row) { return RowTile(item, row, C::kRows, place.ratio); };
  load_stage(shared.stage[0], rows_at(first_row));

  const int mine = warp_of_block() * 16 * C::kM;
  const int32_t warp_key = first_key + mine;
  const float scale_log2 = a.scale * kLog2E;
  float dk[C::kM][C::kDim / 8][4], dv[C::kM][C::kDim / 8][4];
  clear(dk);
  clear(dv);
  int stage = 0;
  for (int32_t row = first_row; row < all_rows; row += C::kRows) {
    const RowTile rows = rows_at(row);
    const bool more = row + C::kRows < all_rows;
    if (C::kStages == 2 && more) {
      load_stage(shared.stage[stage ^ 1], rows_at(row + C::kRows));
      ptx::wait_copies<1>();
    } else {
      ptx::wait_copies<0>();
    }
    __syncthreads();
    const auto& now = shared.stage[stage];
    if (mine < keys && rows.position(rows.count - 1) >= warp_key) {
      float s[C::kM][C::kRows / 8][4], ds[C::kM][C::kRows / 8][4];
      clear(s);
      multiply_transposed(s, shared.k, mine, now.q);
      if (rows.position(0) < warp_key + 16 * C::kM - 1) mask_keys(rows, warp_key, s);
      clear(ds);
      multiply_transposed(ds, shared.v, mine, now.dout);
      key_gradients<C>(s, ds, now, scale_log2);
      multiply_registers(dv, s, now.dout);
      multiply_registers(dk, ds, now.q);
    }
    __syncthreads();
    if (C::kStages == 1 && more) load_stage(shared.stage[0], rows_at(row + C::kRows));
    if (C::kStages == 2) stage ^= 1;
  }
  if (mine >= keys) return;
  store_rows<T>(dk, a.scale, shared.k, mine, keys, at_key(a.dk));
  store_rows<T>(dv, 1.0f, shared.v, mine, keys, at_key(a.dv));
}

template <class C>
void run_tiles(const AttentionBackward& p) {
  launch_tiles<C>("attention_backward", p, TileOf::kKeys, C::kKeys, kFlashThreads,
                  backward_keys<C>);
}

}  // namespace

void flash_backward_keys(const AttentionBackward& p) {
  const bool async = cuda_backend(p.dout_TC).capability() >= 80;
  visit_flash(p.dout_TC.dtype(), p.q.head_dim, [&]<class T, int kDim>() {
    if (async) {
      run_tiles<KeyTiles<T, kDim, kDim == 64 ? 2 : 1, 32, 2>>(p);
    } else {
      run_tiles<KeyTiles<T, kDim, 1, 32, 1>>(p);
    }
  });
}

}  // namespace ink

// dQ of flash attention: a block takes a tile of rows through the keys they see. Three products of
// 2 D flops per visible pair: the scores and dO V^T once more, then dQ += dS K with dS out of
// registers.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_tiles.cuh"

namespace ink {
namespace {

template <class T, int kDim_, int kM_, int kKeys_, int kStages_>
struct QueryTiles {
  using Type = T;
  static constexpr int kDim = kDim_, kM = kM_, kKeys = kKeys_, kStages = kStages_;
  static constexpr int kRows = 16 * kM * kFlashWarps;
  struct Stage {
    Tile<T, kKeys, kDim> k, v;
  };
  struct Shared {
    Tile<T, kRows, kDim> q, dout;
    Stage stage[kStages];
    float lse[kRows], delta[kRows];
    // What the products do not need: 255 registers would be too few at head_dim 128.
    BlockPlace place;
    RowTile rows;
  };
};

// dS in place of dO V^T.
template <class C>
__device__ __forceinline__ void row_gradients(const float (&s)[C::kM][C::kKeys / 8][4],
                                              float (&ds)[C::kM][C::kKeys / 8][4],
                                              const typename C::Shared& shared,
                                              const WarpRows<C::kM>& mine, float scale_log2) {
#pragma unroll
  for (int m = 0; m < C::kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = mine.row_of(m, half);
      const float lse = shared.lse[row] * kLog2E, delta = shared.delta[row];
#pragma unroll
      for (int n = 0; n < C::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i)
          ds[m][n][i] = ptx::exp2_approx(s[m][n][i] * scale_log2 - lse) * (ds[m][n][i] - delta);
      }
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kFlashThreads)
    backward_queries(BackwardArguments<typename C::Type> a) {
  if (C::kStages > 1 && !ptx::kAsyncCopies) return;  // never launched there: no code, no spills
  using T = typename C::Type;
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(C::kRows);
  if (thread_of_block() == 0) shared.place = place, shared.rows = rows;
  load_rows(shared.q, rows, place.group<C::kDim>(a.q));
  load_rows(shared.dout, rows, place.group<C::kDim>(a.dout));
  static_assert(C::kRows <= kFlashThreads);
  if (thread_of_block() < C::kRows) {
    const int row = thread_of_block();
    const int64_t from = rows.statistic(place.head, a.tokens, row);
    ptx::copy_async<4>(shared.lse + row, a.lse + from, row < rows.count);
    ptx::copy_async<4>(shared.delta + row, a.delta + from, row < rows.count);
  }
  __syncthreads();
  const auto load_stage = [&](typename C::Stage& stage, int32_t first) {
    const int32_t kv_head = shared.place.kv_head, there = shared.rows.keys - first;
    const int64_t token = shared.place.item.first_query + first;
    load_tile(stage.k, there, [&](int row) { return a.k.at(token + row, kv_head); });
    load_tile(stage.v, there, [&](int row) { return a.v.at(token + row, kv_head); });
    ptx::commit_copies();
  };
  load_stage(shared.stage[0], 0);

  const WarpRows<C::kM> mine(rows, warp_of_block() * 16 * C::kM);
  const float scale_log2 = a.scale * kLog2E;
  float dq[C::kM][C::kDim / 8][4];
  clear(dq);
  for (int32_t first = 0; first < rows.keys; first += C::kKeys) {
    const bool more = first + C::kKeys < rows.keys;
    const int stage = first / C::kKeys % C::kStages;
    if (C::kStages == 2 && more) {
      load_stage(shared.stage[stage ^ 1], first + C::kKeys);
      ptx::wait_copies<1>();
    } else {
      ptx::wait_copies<0>();
    }
    __syncthreads();
    const auto& now = shared.stage[stage];
    if (first <= mine.last_position) {
      float s[C::kM][C::kKeys / 8][4], ds[C::kM][C::kKeys / 8][4];
      clear(s);
      multiply_transposed(s, shared.q, mine.row, now.k);
      if (first + C::kKeys - 1 > mine.first_position) mine.mask(shared.rows, first, s);
      clear(ds);
      multiply_transposed(ds, shared.dout, mine.row, now.v);
      row_gradients<C>(s, ds, shared, mine, scale_log2);
      multiply_registers(dq, ds, now.k);
    }
    __syncthreads();
    if (C::kStages == 1 && more) load_stage(shared.stage[0], first + C::kKeys);
  }
  const Heads<T> to = shared.place.template group<C::kDim>(a.dq);
  store_rows<T>(dq, a.scale, shared.q, mine.row, shared.rows.count,
                [&](int row) { return shared.rows.in(to, row); });
}

template <class C>
void run_tiles(const AttentionBackward& p) {
  launch_tiles<C>("attention_backward", p, TileOf::kRows, C::kRows, kFlashThreads,
                  backward_queries<C>);
}

}  // namespace

void flash_backward_queries(const AttentionBackward& p) {
  const bool async = cuda_backend(p.dout_TC).capability() >= 80;
  visit_flash(p.dout_TC.dtype(), p.q.head_dim, [&]<class T, int kDim>() {
    if (async) {
      run_tiles<QueryTiles<T, kDim, 2, 32, 2>>(p);
    } else {
      run_tiles<QueryTiles<T, kDim, 1, 32, 1>>(p);
    }
  });
}

}  // namespace ink

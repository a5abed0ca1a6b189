// dQ by wgmma: attention_flash_queries.cu with products of a warpgroup (attention_wgmma.cuh).
//
// Three products of 2 D flops per visible pair. A block takes 128 rows, 64 per consumer, through
// the keys they see, and reads k and v from L2: 64 KiB per 128 keys at head_dim 128, 3072 cycles of
// the tensor cores. A consumer's products for keys i are
//   S = Q K^T, dO V^T, dQ += dS K
// in this order, so that P is computed beside the second, and the last one runs beside the first
// for keys i + 1.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_wgmma.cuh"

namespace ink {
namespace {

template <class T, int kDim_>
struct WarpgroupQueries {
  using Type = T;
  static constexpr int kDim = kDim_, kRows = kConsumers * kWarpgroupRows, kKeys = 128;
  using Keys = PanelTile<T, kKeys, kDim>;
  // Tile 2 i of the ring is keys, tile 2 i + 1 values [i * kKeys, + kKeys).
  struct Shared {
    PanelTile<T, kRows, kDim> q, dout;
    TileRing<Keys, 4> ring;
  };
  using Scores = float[1][kKeys / 8][4];
};

// What the gradient of a thread's two rows needs. Rows that are not there have none.
struct RowStatistics {
  float lse_log2[2] = {}, delta[2] = {};

  template <class T>
  __device__ __forceinline__ RowStatistics(const BackwardArguments<T>& a, const BlockPlace& place,
                                           const RowTile& rows, const WarpRows<1>& mine) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = mine.row_of(0, half);
      if (row >= rows.count) continue;
      const int64_t from = rows.statistic(place.head, a.tokens, row);
      lse_log2[half] = a.lse[from] * kLog2E;
      delta[half] = a.delta[from];
    }
  }
};

template <class C>
__device__ __forceinline__ void consume(const BackwardArguments<typename C::Type>& a,
                                        const BlockPlace& place, const RowTile& rows, int tiles,
                                        typename C::Shared& shared, int consumer) {
  using T = typename C::Type;
  const int first_row = consumer * kWarpgroupRows;
  const WarpRows<kWarpgroupRows / 16> all(rows, first_row);
  const WarpRows<1> mine(rows, first_row + warp_of_block() % 4 * 16);
  const int passes = tiles / 2, seen = all.any() ? all.last_position / C::kKeys + 1 : 0;
  const float scale_log2 = a.scale * kLog2E;
  const RowStatistics of(a, place, rows, mine);
  auto& ring = shared.ring;
  typename C::Scores s, ds;
  float dq[1][C::kDim / 8][4];
  LeftOperand<C::kKeys / 16> left;
  clear(s);  // for the compiler, like ds: the first product of a pass overwrites it
  clear(ds);
  clear(dq);
  ptx::wgmma_fence(dq[0]);
  for (int pass = 0; pass < seen; ++pass) {
    const int32_t first = pass * C::kKeys;
    const auto& k = ring.wait(2 * pass);
    start_transposed(s, shared.q, first_row, k);
    ptx::wgmma_wait<1>(dq[0], left);
    if (pass > 0) ring.release(2 * pass - 2);
    start_transposed(ds, shared.dout, first_row, ring.wait(2 * pass + 1));
    ptx::wgmma_wait<1>(s[0]);
    if (first + C::kKeys - 1 > mine.first_position) mine.mask(rows, first, s);
#pragma unroll
    for (int n = 0; n < C::kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        s[0][n][i] = ptx::exp2_approx(s[0][n][i] * scale_log2 - of.lse_log2[i / 2]);
    }
    // The tile is there: this does not wait. Without it the compiler would move the wait for ds
    // before exp2, of which nothing that it knows orders them.
    ring.wait(2 * pass);
    ptx::wgmma_wait<0>(ds[0]);
    ring.release(2 * pass + 1);
#pragma unroll
    for (int n = 0; n < C::kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) ds[0][n][i] = s[0][n][i] * (ds[0][n][i] - of.delta[i / 2]);
    }
    round_to_left<T>(ds, left);
    start_registers(dq, left, k);
  }
  ptx::wgmma_wait<0>(dq[0], left);
  if (seen > 0) ring.release(2 * seen - 2);
  // What the other consumer alone sees.
  for (int tile = 2 * seen; tile < 2 * passes; ++tile) ring.skip(tile);
  // The warps' products with q are done: its rows make way for the result's.
  meet_warps(consumer);
  const Heads<T> to = place.group<C::kDim>(a.dq);
  store_rows<T>(dq, a.scale, shared.q, mine.row, rows.count,
                [&](int row) { return rows.in(to, row); });
}

template <class C>
__global__ void __launch_bounds__(kWarpgroupThreads, 1)
    backward_queries_warpgroups(BackwardArguments<typename C::Type> a) {
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(C::kRows);
  const int tiles = (rows.keys + C::kKeys - 1) / C::kKeys * 2;
  if (thread_of_block() == 0) shared.ring.init();
  const auto produce = [&] {
    load_rows(shared.q, rows, place.group<C::kDim>(a.q));
    load_rows(shared.dout, rows, place.group<C::kDim>(a.dout));
    produce_keys<C>(a, place, rows, tiles, shared.ring);
  };
  split_warpgroups(produce,
                   [&](int consumer) { consume<C>(a, place, rows, tiles, shared, consumer); });
}

}  // namespace

void wgmma_backward_queries(const AttentionBackward& p) {
  visit_flash(p.dout_TC.dtype(), p.q.head_dim, [&]<class T, int kDim>() {
    using C = WarpgroupQueries<T, kDim>;
    launch_tiles<C>("attention_backward", p, TileOf::kRows, C::kRows, kWarpgroupThreads,
                    backward_queries_warpgroups<C>);
  });
}

}  // namespace ink

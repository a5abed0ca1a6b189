// dK and dV by wgmma: attention_flash_keys.cu with products of a warpgroup (attention_wgmma.cuh).
//
// Four products of 2 D flops per visible pair. A block takes 128 keys, 64 per consumer, through all
// rows that see them, and reads q, dout and their statistics from L2: 33 KiB per 64 rows at
// head_dim 128, 2048 cycles of the tensor cores. A consumer's products for rows i are
//   S^T = K Q^T, (dO V^T)^T, dK += dS^T Q, dV += P^T dO
// in this order, so that P^T is computed beside the second, and the last two run beside the first
// for rows i + 1. dK before dV: P^T is rounded when dS^T is, in registers that dS^T has left; the
// other way round 232 registers would not do at head_dim 128.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_wgmma.cuh"

namespace ink {
namespace {

template <class T, int kDim_>
struct WarpgroupKeys {
  using Type = T;
  static constexpr int kDim = kDim_, kKeys = kConsumers * kWarpgroupRows, kRows = 64;
  struct Stage {
    PanelTile<T, kRows, kDim> q, dout;
    float lse[kRows], delta[kRows];
  };
  struct Shared {
    PanelTile<T, kKeys, kDim> k, v;
    TileRing<Stage, 4> ring;
  };
  using Scores = float[1][kRows / 8][4];
  using Sums = float[1][kDim / 8][4];
  using Left = LeftOperand<kRows / 16>;
};

// The block's keys, and the rows that see them: from the first that sees the first key on.
template <class C>
struct KeyTile {
  BlockPlace place;
  int32_t first_key, keys, first_row, steps;

  __device__ __forceinline__ explicit KeyTile(const BackwardArguments<typename C::Type>& a)
      : place(a),
        first_key(place.item.tile * C::kKeys),
        keys(place.item.keys - first_key),
        first_row(first_key * place.ratio.divisor()),
        steps((place.item.queries * place.ratio.divisor() - first_row + C::kRows - 1) / C::kRows) {}
  [[nodiscard]] __device__ __forceinline__ RowTile rows_of(int step) const {
    return {place.item, first_row + step * C::kRows, C::kRows, place.ratio};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ T* in(const Heads<T>& heads, int key) const {
    return heads.at(int64_t{place.item.first_query} + first_key + key, place.kv_head);
  }
};

template <class C>
__device__ __forceinline__ void produce(const BackwardArguments<typename C::Type>& a,
                                        const KeyTile<C>& tile, typename C::Shared& shared) {
  load_tile(shared.k, tile.keys, [&](int key) { return tile.in(a.k, key); });
  load_tile(shared.v, tile.keys, [&](int key) { return tile.in(a.v, key); });
  const auto q = tile.place.template group<C::kDim>(a.q),
             dout = tile.place.template group<C::kDim>(a.dout);
  shared.ring.template produce<1>(tile.steps, [&](int step, typename C::Stage& stage) {
    const RowTile rows = tile.rows_of(step);
    load_rows(stage.q, rows, q);
    load_rows(stage.dout, rows, dout);
    static_assert(2 * C::kRows == ptx::kWarpgroup);
    const int row = thread_of_block() % C::kRows;
    const bool is_lse = thread_of_block() < C::kRows;
    ptx::copy_async<4>((is_lse ? stage.lse : stage.delta) + row,
                       (is_lse ? a.lse : a.delta) + rows.statistic(tile.place.head, a.tokens, row),
                       row < rows.count);
  });
}

// f(value, statistic of its row) for every value of a fragment [keys, rows].
template <class C, class F>
__device__ __forceinline__ void with_statistic(const float (&statistic)[C::kRows], F f) {
  const float* mine = statistic + ptx::lane_read_here() % 4 * 2;
#pragma unroll
  for (int n = 0; n < C::kRows / 8; ++n) {
    const auto pair = load_pack<2>(mine + 8 * n);
#pragma unroll
    for (int i = 0; i < 4; ++i) f(n, i, pair.v[i % 2]);
  }
}

template <class C>
__device__ __forceinline__ void consume(const BackwardArguments<typename C::Type>& a,
                                        const KeyTile<C>& tile, typename C::Shared& shared,
                                        int consumer) {
  using T = typename C::Type;
  const int first = consumer * kWarpgroupRows, mine = first + warp_of_block() % 4 * 16;
  const int32_t ratio = tile.place.ratio.divisor();
  // The first steps' rows see none of the consumer's keys; `masked` rows do not see all of the
  // warp's.
  static_assert(C::kRows == kWarpgroupRows);
  const int unseen = first < tile.keys ? consumer * ratio : tile.steps;
  const int32_t masked = (mine + 15) * ratio;
  const float scale_log2 = a.scale * kLog2E;
  auto& ring = shared.ring;
  typename C::Scores s, ds;
  typename C::Sums dk, dv;
  typename C::Left p, dp;
  clear(s);  // for the compiler, like ds: the first product of a step overwrites it
  clear(ds);
  clear(dk);
  clear(dv);
  for (int step = 0; step < unseen; ++step) ring.skip(step);
  ptx::wgmma_fence(dk[0], dv[0]);
  for (int step = unseen; step < tile.steps; ++step) {
    const auto& stage = ring.wait(step);
    start_transposed(s, shared.k, first, stage.q);
    ptx::wgmma_wait<1>(dk[0], dv[0], p, dp);
    if (step > unseen) ring.release(step - 1);
    start_transposed(ds, shared.v, first, stage.dout);
    ptx::wgmma_wait<1>(s[0]);
    if (step * C::kRows < masked) mask_keys(tile.rows_of(step), tile.first_key + mine, s);
    with_statistic<C>(stage.lse, [&](int n, int i, float lse) {
      s[0][n][i] = ptx::exp2_approx(s[0][n][i] * scale_log2 - lse * kLog2E);
    });
    // The tile is there: this does not wait. Without it the compiler would move the wait for ds
    // before exp2, of which nothing that it knows orders them.
    ring.wait(step);
    ptx::wgmma_wait<0>(ds[0]);
    with_statistic<C>(stage.delta, [&](int n, int i, float delta) {
      ds[0][n][i] = s[0][n][i] * (ds[0][n][i] - delta);
    });
    round_to_left<T>(ds, dp);
    start_registers(dk, dp, stage.q);
    round_to_left<T>(s, p);
    start_registers(dv, p, stage.dout);
  }
  ptx::wgmma_wait<0>(dk[0], dv[0], p, dp);
  // The warps' products with k and v are done: their rows make way for the results'.
  meet_warps(consumer);
  if (mine >= tile.keys) return;
  store_rows<T>(dk, a.scale, shared.k, mine, tile.keys,
                [&](int key) { return tile.in(a.dk, key); });
  store_rows<T>(dv, 1.0f, shared.v, mine, tile.keys, [&](int key) { return tile.in(a.dv, key); });
}

template <class C>
__global__ void __launch_bounds__(kWarpgroupThreads, 1)
    backward_keys_warpgroups(BackwardArguments<typename C::Type> a) {
  auto& shared = shared_memory<typename C::Shared>();
  const KeyTile<C> tile(a);
  if (tile.place.empty()) return;
  if (thread_of_block() == 0) shared.ring.init();
  split_warpgroups([&] { produce<C>(a, tile, shared); },
                   [&](int consumer) { consume<C>(a, tile, shared, consumer); });
}

}  // namespace

void wgmma_backward_keys(const AttentionBackward& p) {
  visit_flash(p.dout_TC.dtype(), p.q.head_dim, [&]<class T, int kDim>() {
    using C = WarpgroupKeys<T, kDim>;
    launch_tiles<C>("attention_backward", p, TileOf::kKeys, C::kKeys, kWarpgroupThreads,
                    backward_keys_warpgroups<C>);
  });
}

}  // namespace ink

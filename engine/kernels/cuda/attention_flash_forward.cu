// Attention forward on tensor cores: FlashAttention-2 (Dao, 2023) for head_dim 64 and 128 in bf16
// and f16, over packed documents or a block table.
//
// 4 D flops per visible pair of query and key, two products; bytes: q and out once, a tile of k and
// v once per row tile, from L2 for all but the first. A warp owns 16 kM rows and keeps their sums
// in registers; while one of k and v is multiplied the other is on its way. Whole tiles beyond the
// diagonal are never loaded, tiles below it are not masked.
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_softmax.cuh"

namespace ink {
namespace {

template <class T, int kDim_, int kM_, int kKeys_>
struct ForwardTiles {
  using Type = T;
  static constexpr int kDim = kDim_, kM = kM_, kKeys = kKeys_;
  static constexpr int kRows = 16 * kM * kFlashWarps;
  struct Shared {
    Tile<T, kRows, kDim> q;
    Tile<T, kKeys, kDim> k, v;
  };
};

template <class C, bool kPaged>
__global__ void __launch_bounds__(kFlashThreads)
    forward_tiles(ForwardArguments<typename C::Type> a) {
  using T = typename C::Type;
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(C::kRows);
  load_rows(shared.q, rows, place.group<C::kDim>(a.q));
  const auto load_keys = [&](const Heads<const T>& x, Tile<T, C::kKeys, C::kDim>& tile,
                             int32_t first) {
    const T* const heads = x.at(0, place.kv_head);
    load_tile(tile, rows.keys - first, [&](int row) {
      const int32_t key = first + row, last = rows.keys - 1;
      return heads +
             x.row_stride * key_row<kPaged>(a.key_rows, place.item, key < last ? key : last);
    });
    ptx::commit_copies();
  };
  load_keys(a.k, shared.k, 0);

  const WarpRows<C::kM> mine(rows, warp_of_block() * 16 * C::kM);
  const float scale_log2 = a.scale * kLog2E;
  OnlineSoftmax<C::kM> state;
  float o[C::kM][C::kDim / 8][4];
  clear(o);
  for (int32_t first = 0; first < rows.keys; first += C::kKeys) {
    const bool sees = first <= mine.last_position;
    ptx::wait_copies<0>();
    __syncthreads();
    load_keys(a.v, shared.v, first);
    float s[C::kM][C::kKeys / 8][4];
    if (sees) {
      clear(s);
      multiply_transposed(s, shared.q, mine.row, shared.k);
      if (first + C::kKeys - 1 > mine.first_position) mine.mask(rows, first, s);
    }
    ptx::wait_copies<0>();
    __syncthreads();
    if (first + C::kKeys < rows.keys) load_keys(a.k, shared.k, first + C::kKeys);
    if (sees) {
      float shrink[C::kM][2];
      state.add(s, scale_log2, shrink);
      scale_rows(o, shrink);
      multiply_registers(o, s, shared.v);
    }
  }
  if (mine.any()) store_attention(a, place, rows, mine, state, o, shared.q);
}

// Host side: one tile shape per head_dim and capability.
template <class C, bool kPaged>
void run_tiles(const AttentionForward& p) {
  launch_tiles<C>(kPaged ? "attention_cached" : "attention_forward", p, TileOf::kRows, C::kRows,
                  kFlashThreads, forward_tiles<C, kPaged>);
}

template <bool kPaged>
void run(const AttentionForward& p) {
  // 32 rows per warp read a tile of keys once for two fragments. 48 KiB at most, so that shared
  // memory has room for three blocks on sm_80; 16 rows leave room on sm_75 for tiles of 64 keys.
  const bool two_fragments = cuda_backend(p.out_TC).capability() >= 80;
  visit_flash(p.out_TC.dtype(), p.q.head_dim, [&]<class T, int kDim>() {
    if (two_fragments) {
      run_tiles<ForwardTiles<T, kDim, 2, kDim == 64 ? 64 : 32>, kPaged>(p);
    } else {
      run_tiles<ForwardTiles<T, kDim, 1, 64>, kPaged>(p);
    }
  });
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  run<false>(packed_forward(q, k, v, documents, out_TC, lse_HT));
}

bool takes_forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents&,
                   Tensor&, Tensor&) {
  return flash_takes(q, k, v);
}

void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  const HeadsView k{cache.k, q.head_dim}, v{cache.v, q.head_dim};
  run<true>({.q = q,
             .k = k,
             .v = v,
             .out_TC = out_TC,
             .sequences = sequences_of(cache),
             .key_rows = key_rows_of(cache)});
}

// A prompt. Single tokens leave most rows of a tile empty: they are a matter of memory bandwidth.
bool takes_cached(const HeadsView& q, const KvCacheView& cache, Tensor&) {
  return !generates(q, cache) && flash_takes(q, {cache.k, q.head_dim}, {cache.v, q.head_dim});
}

REGISTER_KERNEL(attention_forward, kCuda, flash_mma, forward, .priority = 10,
                .supports = takes_forward);
REGISTER_KERNEL(attention_cached, kCuda, flash_mma, cached, .priority = 10,
                .supports = takes_cached);

}  // namespace
}  // namespace ink

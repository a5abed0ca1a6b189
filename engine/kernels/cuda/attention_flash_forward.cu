// Attention forward on tensor cores: FlashAttention-2 (Dao, 2023) for head_dim 64 and 128 in bf16
// and f16, over packed documents or a block table.
//
// 4 D flops per visible pair of query and key, two products; bytes: q and out once, a tile of k and
// v once per row tile, from L2 for all but the first. A warp owns 16 kM rows and keeps their sums
// in registers; while one of k and v is multiplied the other is on its way. Whole tiles beyond the
// diagonal are never loaded, tiles below it are not masked.
#include "engine/kernels/cuda/attention_flash.h"
#include "engine/kernels/cuda/attention_tiles.cuh"
#include "engine/kernels/cuda/launch.h"

namespace ink {
namespace {

template <class T>
struct ForwardArguments {
  Heads<const T> q, k, v;
  Heads<T> out;
  float* lse = nullptr;  // [H, T], may be absent
  int64_t tokens = 0;
  const AttentionItem* items = nullptr;
  FastDivide kv_heads, ratio;
  float scale = 0;
  KeyRows key_rows;
};

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

// Running maximum and sum of every row that a thread has a part of, and the weighted sum of v.
template <class C>
struct OnlineSoftmax {
  float most[C::kM][2], sum[C::kM][2], o[C::kM][C::kDim / 8][4];

  __device__ __forceinline__ void start() {
    clear(o);
#pragma unroll
    for (int m = 0; m < C::kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) most[m][half] = -INFINITY, sum[m][half] = 0.0f;
    }
  }

  // Scores become probabilities relative to the new maximum. The sum stays per thread.
  __device__ __forceinline__ void add(float (&s)[C::kM][C::kKeys / 8][4], float scale_log2) {
#pragma unroll
    for (int m = 0; m < C::kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float now = most[m][half];
#pragma unroll
        for (int n = 0; n < C::kKeys / 8; ++n)
          now = fmaxf(now, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        now = fmaxf(now, __shfl_xor_sync(kFullMask, now, 1));
        now = fmaxf(now, __shfl_xor_sync(kFullMask, now, 2));
        const float shrink = ptx::exp2_approx((most[m][half] - now) * scale_log2);
        most[m][half] = now;
        float total = sum[m][half] * shrink;
        const float shift = now * scale_log2;
#pragma unroll
        for (int n = 0; n < C::kKeys / 8; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            s[m][n][i] = ptx::exp2_approx(s[m][n][i] * scale_log2 - shift);
            total += s[m][n][i];
          }
        }
        sum[m][half] = total;
#pragma unroll
        for (int n = 0; n < C::kDim / 8; ++n) {
          o[m][n][2 * half] *= shrink;
          o[m][n][2 * half + 1] *= shrink;
        }
      }
    }
  }

  // The row's whole sum in all four threads that share it.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int m = 0; m < C::kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum[m][half] += __shfl_xor_sync(kFullMask, sum[m][half], 1);
        sum[m][half] += __shfl_xor_sync(kFullMask, sum[m][half], 2);
      }
    }
  }
};

template <class C, bool kPaged>
__global__ void __launch_bounds__(kFlashThreads)
    forward_tiles(ForwardArguments<typename C::Type> a) {
  using T = typename C::Type;
  auto& shared = shared_memory<typename C::Shared>();
  const BlockPlace place(a.items, a.kv_heads);
  const AttentionItem& item = place.item;
  const int32_t kv_head = place.kv_head;
  if (item.queries == 0) return;
  const int32_t ratio = a.ratio.divisor(), head = kv_head * ratio;
  const RowTile rows(item, item.tile * C::kRows, C::kRows, a.ratio);

  const GroupRows<const T> q = a.q.group(head, ratio);
  load_tile(shared.q, rows.count, [&](int row) {
    const int32_t query = rows.query(row);
    return q.at(rows.token(query), rows.head(row, query));
  });
  const auto load_keys = [&](const Heads<const T>& x, Tile<T, C::kKeys, C::kDim>& tile,
                             int32_t first) {
    load_tile(tile, rows.keys - first, [&](int row) {
      const int32_t key = first + row, last = rows.keys - 1;
      return x.at(key_row<kPaged>(a.key_rows, item, key < last ? key : last), kv_head);
    });
    ptx::commit_copies();
  };
  load_keys(a.k, shared.k, 0);

  const WarpRows<C::kM> mine(rows, warp_of_block() * 16 * C::kM);
  const float scale_log2 = a.scale * kLog2E;
  OnlineSoftmax<C> state;
  state.start();
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
      state.add(s, scale_log2);
      multiply_registers(state.o, s, shared.v);
    }
  }
  if (!mine.any()) return;

  state.finish();
  float inverse[C::kM][2];
#pragma unroll
  for (int m = 0; m < C::kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      inverse[m][half] = 1.0f / state.sum[m][half];
      const int row = mine.row_of(m, half);
      if (a.lse == nullptr || lane_of_warp() % 4 != 0 || row >= rows.count) continue;
      const int32_t query = rows.query(row);
      a.lse[(head + rows.head(row, query)) * a.tokens + rows.token(query)] =
          state.most[m][half] * a.scale + logf(state.sum[m][half]);
    }
  }
  const GroupRows<T> out = a.out.group(head, ratio);
  store_rows(state.o, inverse, shared.q, mine.row, rows.count, [&](int row) {
    const int32_t query = rows.query(row);
    return out.at(rows.token(query), rows.head(row, query));
  });
}

// Host side: one tile shape per head_dim and capability.
struct ForwardProblem {
  const HeadsView &q, &k, &v;
  Tensor& out_TC;
  AttentionSequences sequences;
  float* lse = nullptr;
  KeyRows key_rows;
};

template <class C, bool kPaged>
void run_tiles(const ForwardProblem& p) {
  using T = typename C::Type;
  const int64_t ratio = p.q.heads / p.k.heads;
  const Tensor items = plan_attention(
      p.sequences, {.of = TileOf::kRows, .size = C::kRows, .ratio = ratio}, p.out_TC);
  ForwardArguments<T> a{heads_of<const T>(p.q), heads_of<const T>(p.k), heads_of<const T>(p.v),
                        heads_of<T>(side_by_side(p.out_TC, p.q.heads, p.q.head_dim))};
  a.lse = p.lse;
  a.tokens = p.out_TC.rows();
  a.items = static_cast<const AttentionItem*>(items.raw());
  a.kv_heads = FastDivide(p.k.heads);
  a.ratio = FastDivide(ratio);
  a.scale = 1.0f / std::sqrt(static_cast<float>(p.q.head_dim));
  a.key_rows = p.key_rows;
  launch(cuda_backend(p.out_TC), kPaged ? "attention_cached" : "attention_forward",
         {.grid = dim3(blocks_for(items.rows() * p.k.heads, 1), 1, 1),
          .block = dim3(kFlashThreads, 1, 1),
          .shared_bytes = sizeof(typename C::Shared)},
         forward_tiles<C, kPaged>, a);
}

template <bool kPaged>
void run(const ForwardProblem& p) {
  // 32 rows per warp read a tile of keys once for two fragments; 64 KiB hold them twice on sm_80.
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
  run<false>({.q = q,
              .k = k,
              .v = v,
              .out_TC = out_TC,
              .sequences = sequences_of(documents),
              .lse = lse_HT.data<float>()});
}

bool takes_forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents&,
                   Tensor&, Tensor&) {
  return flash_takes(q, k, v);
}

void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  const HeadsView k = cached_heads(cache.k, q.head_dim), v = cached_heads(cache.v, q.head_dim);
  run<true>({.q = q,
             .k = k,
             .v = v,
             .out_TC = out_TC,
             .sequences = sequences_of(cache),
             .key_rows = key_rows_of(cache)});
}

// A prompt. Single tokens leave most rows of a tile empty: they are a matter of memory bandwidth.
bool takes_cached(const HeadsView& q, const KvCacheView& cache, Tensor&) {
  return !single_tokens(q, cache) &&
         flash_takes(q, cached_heads(cache.k, q.head_dim), cached_heads(cache.v, q.head_dim));
}

REGISTER_KERNEL(attention_forward, kCuda, flash_mma, forward, .priority = 10,
                .supports = takes_forward);
REGISTER_KERNEL(attention_cached, kCuda, flash_mma, cached, .priority = 10,
                .supports = takes_cached);

}  // namespace
}  // namespace ink

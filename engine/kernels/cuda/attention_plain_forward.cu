// Attention forward for every dtype and head_dim, in f32 arithmetic: what flash_mma does not take.
// 4 D flops per visible pair on the FMA units; a tile of 32 rows reads every key and value once.
// Heads wider than kColumns compute their scores once per chunk of columns. Generation reads the
// keys of one new token from a cache, 4 D bytes per key and group in 16 bits and little arithmetic:
// there the keys are split among blocks, so that enough of them are on their way.
#include <algorithm>

#include "engine/kernels/cuda/attention_forward.h"
#include "engine/kernels/cuda/attention_plain.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/visit.h"

namespace ink::plain {
namespace {

// With several splits of the keys every split leaves its sums and their maximum and total here.
struct Partial {
  float* sums = nullptr;         // [splits, T, H, D]
  float2* statistics = nullptr;  // [splits, T, H]: maximum, total
};

template <class T>
struct SplitArguments : ForwardArguments<T> {
  bool packed = false;
  int32_t span = 0;  // keys per split, a multiple of kTile
  Partial partial;
};

template <int kColumns>
struct ForwardShared {
  Stage<kColumns> q, k, v;
  Weights p;
};

// Online softmax of one row of a warp: the lane's score becomes its probability relative to the new
// maximum; what is summed up so far shrinks to it. A row may see nothing of a tile.
template <int kSums>
__device__ __forceinline__ float probability(float score, float& most, float& total,
                                             float (&sums)[kSums]) {
  const float now = fmaxf(most, warp_max(score));
  const float shift = now == -INFINITY ? 0.0f : now;
  const float shrink = expf(most - shift), p = expf(score - shift);
  most = now;
  total = total * shrink + p;
#pragma unroll
  for (int j = 0; j < kSums; ++j) sums[j] *= shrink;
  return p;
}

// What a warp has summed up over its rows.
template <int kRows, int kColumns>
struct RowSums {
  float sum[kRows][kColumns / kWarpSize] = {}, most[kRows], total[kRows] = {};
};

template <class T, bool kPaged, int kRows, int kColumns>
__device__ __forceinline__ void attend(const SplitArguments<T>& a, const BlockPlace& place,
                                       const RowTile& rows, int first_column,
                                       ForwardShared<kColumns>& shared,
                                       RowSums<kRows, kColumns>& sums) {
  const int32_t dim = a.q.head_dim;
  const int32_t begin = static_cast<int32_t>(blockIdx.z) * a.span;
  const int32_t end = rows.keys - begin < a.span ? rows.keys : begin + a.span;
  for (int32_t first = begin; first < end; first += kTile) {
    float s[kRows] = {};
    for (int column = 0; column < dim; column += kColumns) {
      __syncthreads();
      if (first == begin || dim > kColumns)
        load_stage<T>(shared.q, rows.count, column, dim, a.packed, [&](int row) {
          const int32_t query = rows.query(row);
          return a.q.at(rows.token(query), place.head + rows.head(row, query));
        });
      load_stage<T>(shared.k, end - first, column, dim, a.packed, [&](int row) {
        return a.k.at(key_row<kPaged>(a.key_rows, place.item, first + row), place.kv_head);
      });
      if (column == 0)
        load_stage<T>(shared.v, end - first, first_column, dim, a.packed, [&](int row) {
          return a.v.at(key_row<kPaged>(a.key_rows, place.item, first + row), place.kv_head);
        });
      __syncthreads();
      add_dots(s, shared.q, shared.k);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int32_t key = first + lane_of_warp();
      const bool visible = key < end && key <= rows.position(row_of_warp(r));
      s[r] = probability(visible ? s[r] * a.scale : -INFINITY, sums.most[r], sums.total[r],
                         sums.sum[r]);
    }
    add_weighted(sums.sum, s, shared.p, shared.v);
  }
}

// The tile of at most kRows rows per warp.
template <class T, int kColumns, bool kPaged, int kRows>
__device__ __forceinline__ void forward_rows(const SplitArguments<T>& a, const BlockPlace& place,
                                             const RowTile& rows) {
  const int first_column = static_cast<int>(blockIdx.y) * kColumns;
  RowSums<kRows, kColumns> sums;
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums.most[r] = -INFINITY;
  attend<T, kPaged>(a, place, rows, first_column, shared_memory<ForwardShared<kColumns>>(), sums);

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total = warp_sum(sums.total[r]);
    const int row = row_of_warp(r);
    if (row >= rows.count) continue;
    const int32_t query = rows.query(row);
    const int32_t head = place.head + rows.head(row, query);
    const int64_t token = rows.token(query);
    if (gridDim.z == 1) {
      store_row<T, kColumns>(sums.sum[r], 1.0f / total, first_column, a.q.head_dim,
                             a.out.at(token, head));
      if (a.lse != nullptr && lane_of_warp() == 0 && first_column == 0)
        a.lse[head * a.tokens + token] = sums.most[r] + logf(total);
    } else {
      const int64_t heads = int64_t{a.kv_heads.divisor()} * a.ratio.divisor();
      const int64_t to = (blockIdx.z * a.tokens + token) * heads + head;
      if (total != 0.0f)
        store_row<float, kColumns>(sums.sum[r], 1.0f, first_column, a.q.head_dim,
                                   a.partial.sums + to * a.q.head_dim);
      if (lane_of_warp() == 0 && first_column == 0)
        a.partial.statistics[to] = make_float2(sums.most[r], total);
    }
  }
}

// A new token has as many rows as its group has heads: up to two per warp, where a full tile has
// kRowsPerWarp.
template <class T, int kColumns, bool kPaged>
__global__ void __launch_bounds__(kThreads) forward_tiles(SplitArguments<T> a) {
  const BlockPlace place(a);
  if (place.empty()) return;
  const RowTile rows = place.rows(kTile);
  if (kPaged && rows.count <= 2 * kWarps) {
    forward_rows<T, kColumns, kPaged, 2>(a, place, rows);
  } else {
    forward_rows<T, kColumns, kPaged, kRowsPerWarp>(a, place, rows);
  }
}

// The splits of one row become its result, in their order; one warp per row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_splits(Partial partial, int32_t splits, int64_t rows, FastDivide heads, Heads<T> out) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_of_block();
  if (row >= rows) return;
  const int32_t dim = out.head_dim;
  float most = -INFINITY, total = 0.0f;
  for (int32_t s = 0; s < splits; ++s) most = fmaxf(most, partial.statistics[s * rows + row].x);
  for (int32_t s = 0; s < splits; ++s) {
    const float2 statistic = partial.statistics[s * rows + row];
    if (statistic.y != 0.0f) total += statistic.y * expf(statistic.x - most);
  }
  const int64_t token = row / heads.divisor();
  T* to = out.at(token, static_cast<int32_t>(row - token * heads.divisor()));
  for (int c = lane_of_warp(); c < dim; c += kWarpSize) {
    float sum = 0.0f;
    for (int32_t s = 0; s < splits; ++s) {
      const float2 statistic = partial.statistics[s * rows + row];
      if (statistic.y == 0.0f) continue;  // the split lies after the row's last key
      sum += partial.sums[(s * rows + row) * dim + c] * expf(statistic.x - most);
    }
    to[c] = from_float<T>(sum / total);
  }
}

// span: keys that one block works through; the cut does not depend on the other sequences.
template <bool kPaged>
void run(const AttentionForward& p, const char* op, int64_t max_keys, int64_t span) {
  const int64_t rows = p.out_TC.rows() * p.q.heads();
  const int64_t splits = std::max<int64_t>(1, (max_keys + span - 1) / span);
  CHECK(splits <= 65535, "{} keys are too many", max_keys);
  Runtime& runtime = p.out_TC.runtime();
  const Tensor items = plan_attention(
      p.sequences, {.of = TileOf::kRows, .size = kTile, .ratio = p.ratio()}, p.out_TC);
  const int64_t kept = splits > 1 ? splits * rows : 0;
  const Tensor sums(runtime, {kept, p.q.head_dim}, DType::kF32, MemoryTag::kWorkspace);
  const Tensor statistics(runtime, {kept, 2}, DType::kF32, MemoryTag::kWorkspace);
  CudaBackend& backend = cuda_backend(p.out_TC);
  visit_device_float(p.out_TC.dtype(), [&]<class T>() {
    const SplitArguments<T> a{
        arguments_of<T>(p, items),
        heads_on_16_bytes(p.q) && heads_on_16_bytes(p.k) && heads_on_16_bytes(p.v),
        static_cast<int32_t>(span),
        {static_cast<float*>(sums.raw()), static_cast<float2*>(statistics.raw())}};
    visit_columns<128>(p.q.head_dim, [&]<int kColumns>() {
      launch(backend, op,
             {.grid = dim3(blocks_for(items.rows() * p.k.heads(), 1),
                           blocks_for(p.q.head_dim, kColumns), static_cast<unsigned>(splits)),
              .block = dim3(kThreads, 1, 1),
              .shared_bytes = sizeof(ForwardShared<kColumns>)},
             forward_tiles<T, kColumns, kPaged>, a);
    });
    if (splits > 1)
      launch(backend, op,
             {.grid = dim3(blocks_for(rows, kWarps), 1, 1), .block = dim3(kThreads, 1, 1)},
             combine_splits<T>, a.partial, static_cast<int32_t>(splits), rows,
             FastDivide(p.q.heads()), a.out);
  });
}

constexpr int64_t kNoSplit = int64_t{1} << 30;
constexpr int64_t kSplit = 512;

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  run<false>(packed_forward(q, k, v, documents, out_TC, lse_HT), "attention_forward", 0, kNoSplit);
}

// A few new tokens are too few blocks for a card: their keys are split among several.
void cached(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  const HeadsView k{cache.k, q.head_dim}, v{cache.v, q.head_dim};
  run<true>({.q = q,
             .k = k,
             .v = v,
             .out_TC = out_TC,
             .sequences = sequences_of(cache),
             .key_rows = key_rows_of(cache)},
            "attention_cached", cache.block_table.cols() * cache.block,
            generates(q, cache) ? kSplit : kNoSplit);
}

REGISTER_KERNEL(attention_forward, kCuda, plain, forward);
REGISTER_KERNEL(attention_cached, kCuda, plain, cached);

}  // namespace
}  // namespace ink::plain

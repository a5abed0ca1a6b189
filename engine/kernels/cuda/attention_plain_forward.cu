// Attention forward for every dtype and head_dim, in f32 arithmetic: what flash_mma does not take.
// 4 D flops per visible pair on the FMA units; a tile of 32 rows reads every key and value once.
// Heads wider than kColumns compute their scores once per chunk of columns.
#include "engine/kernels/cuda/attention_plain.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/visit.h"

namespace ink {
namespace {

using namespace plain;

template <class T>
struct ForwardArguments {
  Heads<const T> q, k, v;
  Heads<T> out;
  float* lse = nullptr;  // [H, T]
  int64_t tokens = 0;
  const AttentionItem* items = nullptr;
  FastDivide kv_heads, ratio;
  int32_t dim = 0;
  float scale = 0;
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

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) forward_tiles(ForwardArguments<T> a) {
  auto& shared = shared_memory<ForwardShared<kColumns>>();
  const auto block = static_cast<int32_t>(blockIdx.x);
  const int32_t at = a.kv_heads.quotient(block), kv_head = block - at * a.kv_heads.divisor();
  const AttentionItem item = a.items[at];
  if (item.queries == 0) return;
  const int32_t first_head = kv_head * a.ratio.divisor();
  const RowTile rows(item, item.tile * kTile, kTile, a.ratio);
  const int first_column = static_cast<int>(blockIdx.y) * kColumns;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarp;
  const auto q_row = [&](int row) {
    const int32_t query = rows.query(row);
    return a.q.at(rows.token(query), first_head + rows.head(row, query));
  };

  float sum[kRowsPerWarp][kColumns / kWarpSize] = {}, most[kRowsPerWarp], total[kRowsPerWarp] = {};
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) most[r] = -INFINITY;
  for (int32_t first = 0; first < rows.keys; first += kTile) {
    const int64_t token = item.first_query + first;
    float s[kRowsPerWarp] = {};
    for (int column = 0; column < a.dim; column += kColumns) {
      __syncthreads();
      if (first == 0 || a.dim > kColumns) load_stage(shared.q, rows.count, column, a.dim, q_row);
      load_stage(shared.k, rows.keys - first, column, a.dim,
                 [&](int row) { return a.k.at(token + row, kv_head); });
      if (column == 0)
        load_stage(shared.v, rows.keys - first, first_column, a.dim,
                   [&](int row) { return a.v.at(token + row, kv_head); });
      __syncthreads();
      add_dots(s, shared.q, shared.k);
    }
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool visible = first + lane <= rows.position(first_row + r);
      s[r] = probability(visible ? s[r] * a.scale : -INFINITY, most[r], total[r], sum[r]);
    }
    add_weighted(sum, s, shared.p, shared.v);
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const float all = warp_sum(total[r]);
    const int row = first_row + r;
    if (row >= rows.count) continue;
    const int32_t query = rows.query(row), head = first_head + rows.head(row, query);
    store_row<T, kColumns>(sum[r], 1.0f / all, first_column, a.dim,
                           a.out.at(rows.token(query), head));
    if (lane == 0 && first_column == 0)
      a.lse[head * a.tokens + rows.token(query)] = most[r] + logf(all);
  }
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  const int64_t ratio = q.heads / k.heads;
  const Tensor items = plan_attention(sequences_of(documents),
                                      {.of = TileOf::kRows, .size = kTile, .ratio = ratio}, out_TC);
  visit_device_float(out_TC.dtype(), [&]<class T>() {
    const ForwardArguments<T> a{.q = heads_of<const T>(q),
                                .k = heads_of<const T>(k),
                                .v = heads_of<const T>(v),
                                .out = heads_of<T>(out_TC, q.heads, q.head_dim),
                                .lse = lse_HT.data<float>(),
                                .tokens = out_TC.rows(),
                                .items = static_cast<const AttentionItem*>(items.raw()),
                                .kv_heads = FastDivide(k.heads),
                                .ratio = FastDivide(ratio),
                                .dim = static_cast<int32_t>(q.head_dim),
                                .scale = 1.0f / std::sqrt(static_cast<float>(q.head_dim))};
    visit_columns<128>(q.head_dim, [&]<int kColumns>() {
      launch(cuda_backend(out_TC), "attention_forward",
             {.grid = dim3(blocks_for(items.rows() * k.heads, 1), blocks_for(q.head_dim, kColumns)),
              .block = dim3(kThreads, 1, 1),
              .shared_bytes = sizeof(ForwardShared<kColumns>)},
             forward_tiles<T, kColumns>, a);
    });
  });
}

REGISTER_KERNEL(attention_forward, kCuda, plain, forward);

}  // namespace
}  // namespace ink

// Attention backward for every dtype and head_dim, in f32 arithmetic (formulas:
// attention_flash_backward.cu). Two kernels, over tiles of 32 keys and of 32 rows; 14 D flops per
// visible pair, more where a head is wider than kColumns: the scores are then computed once per
// chunk of columns. A chunk's own columns are staged last and stay for the gradients.
#include "engine/kernels/cuda/attention_backward.h"
#include "engine/kernels/cuda/attention_plain.cuh"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/visit.h"

namespace ink::plain {
namespace {

template <int kColumns>
struct BackwardShared {
  Stage<kColumns> q, k, v, dout;
  Weights weights;
};

// One block's place and the loads of its stages.
template <class T, int kColumns>
struct BackwardBlock : BlockPlace {
  const BackwardArguments<T>& a;
  BackwardShared<kColumns>& shared;
  int32_t dim;
  int first_column, chunks, lane;

  __device__ __forceinline__ BackwardBlock(const BackwardArguments<T>& arguments,
                                           BackwardShared<kColumns>& memory)
      : BlockPlace(arguments), a(arguments), shared(memory) {
    dim = a.q.head_dim;
    chunks = static_cast<int>(gridDim.y);
    first_column = static_cast<int>(blockIdx.y) * kColumns;
    lane = lane_of_warp();
  }
  // The i-th chunk to stage: the block's own is the last.
  __device__ __forceinline__ int column(int i) const {
    const int at = first_column + (i + 1) * kColumns;
    return at < chunks * kColumns ? at : at - chunks * kColumns;
  }
  __device__ __forceinline__ void load_rows(const RowTile& rows, int column) const {
    const auto load = [&](Stage<kColumns>& stage, const Heads<const T>& x) {
      load_stage<T>(stage, rows.count, column, dim, a.packed, [&](int row) {
        const int32_t query = rows.query(row);
        return x.at(rows.token(query), head + rows.head(row, query));
      });
    };
    load(shared.q, a.q);
    load(shared.dout, a.dout);
  }
  __device__ __forceinline__ void load_keys(int32_t first, int32_t keys, int column) const {
    const auto load = [&](Stage<kColumns>& stage, const Heads<const T>& x) {
      load_stage<T>(stage, keys, column, dim, a.packed,
                    [&](int row) { return x.at(item.first_query + first + row, kv_head); });
    };
    load(shared.k, a.k);
    load(shared.v, a.v);
  }
  __device__ __forceinline__ int64_t statistic(const RowTile& rows, int row) const {
    return rows.statistic(head, a.tokens, row);
  }
};

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) backward_keys(BackwardArguments<T> a) {
  auto& shared = shared_memory<BackwardShared<kColumns>>();
  const BackwardBlock<T, kColumns> b(a, shared);
  if (b.empty()) return;
  const int32_t first_key = b.item.tile * kTile, keys = b.item.keys - first_key;
  const int32_t ratio = a.ratio.divisor(), all_rows = b.item.queries * ratio;
  float dk[kRowsPerWarp][kColumns / kWarpSize] = {}, dv[kRowsPerWarp][kColumns / kWarpSize] = {};
  for (int32_t first = first_key * ratio; first < all_rows; first += kTile) {
    const RowTile rows(b.item, first, kTile, a.ratio);
    float p[kRowsPerWarp] = {}, ds[kRowsPerWarp] = {};
    for (int i = 0; i < b.chunks; ++i) {
      __syncthreads();
      b.load_rows(rows, b.column(i));
      if (first == first_key * ratio || b.chunks > 1) b.load_keys(first_key, keys, b.column(i));
      __syncthreads();
      add_dots(p, shared.k, shared.q);
      add_dots(ds, shared.v, shared.dout);
    }
    const bool there = b.lane < rows.count;
    const float lse = there ? a.lse[b.statistic(rows, b.lane)] : 0.0f;
    const float delta = there ? a.delta[b.statistic(rows, b.lane)] : 0.0f;
    const int32_t position = there ? rows.position(b.lane) : -1;
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      p[r] = first_key + row_of_warp(r) <= position ? expf(p[r] * a.scale - lse) : 0.0f;
      ds[r] = p[r] * (ds[r] - delta);
    }
    add_weighted(dv, p, shared.weights, shared.dout);
    add_weighted(dk, ds, shared.weights, shared.q);
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (row_of_warp(r) >= keys) continue;
    const int64_t token = b.item.first_query + first_key + row_of_warp(r);
    store_row<T, kColumns>(dk[r], a.scale, b.first_column, b.dim, a.dk.at(token, b.kv_head));
    store_row<T, kColumns>(dv[r], 1.0f, b.first_column, b.dim, a.dv.at(token, b.kv_head));
  }
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) backward_queries(BackwardArguments<T> a) {
  auto& shared = shared_memory<BackwardShared<kColumns>>();
  const BackwardBlock<T, kColumns> b(a, shared);
  if (b.empty()) return;
  const RowTile rows = b.rows(kTile);
  float dq[kRowsPerWarp][kColumns / kWarpSize] = {}, lse[kRowsPerWarp], delta[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const bool there = row_of_warp(r) < rows.count;
    lse[r] = there ? a.lse[b.statistic(rows, row_of_warp(r))] : 0.0f;
    delta[r] = there ? a.delta[b.statistic(rows, row_of_warp(r))] : 0.0f;
  }
  for (int32_t first = 0; first < rows.keys; first += kTile) {
    float s[kRowsPerWarp] = {}, ds[kRowsPerWarp] = {};
    for (int i = 0; i < b.chunks; ++i) {
      __syncthreads();
      if (first == 0 || b.chunks > 1) b.load_rows(rows, b.column(i));
      b.load_keys(first, rows.keys - first, b.column(i));
      __syncthreads();
      add_dots(s, shared.q, shared.k);
      add_dots(ds, shared.dout, shared.v);
    }
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool visible = first + b.lane <= rows.position(row_of_warp(r));
      ds[r] = visible ? expf(s[r] * a.scale - lse[r]) * (ds[r] - delta[r]) : 0.0f;
    }
    add_weighted(dq, ds, shared.weights, shared.k);
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const int row = row_of_warp(r);
    if (row >= rows.count) continue;
    const int32_t query = rows.query(row);
    store_row<T, kColumns>(dq[r], a.scale, b.first_column, b.dim,
                           a.dq.at(rows.token(query), b.head + rows.head(row, query)));
  }
}

template <class T, int kColumns>
void run_tiles(const AttentionBackward& p, TileOf of, void (*kernel)(BackwardArguments<T>)) {
  const Tensor items =
      plan_attention(p.sequences, {.of = of, .size = kTile, .ratio = p.ratio()}, p.dout_TC);
  launch(
      cuda_backend(p.dout_TC), "attention_backward",
      {.grid = dim3(blocks_for(items.rows() * p.k.heads(), 1), blocks_for(p.q.head_dim, kColumns)),
       .block = dim3(kThreads, 1, 1),
       .shared_bytes = sizeof(BackwardShared<kColumns>)},
      kernel, arguments_of<T>(p, items));
}

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  const AttentionBackward p =
      packed_backward(dout_TC, q, k, v, out_TC, lse_HT, documents, dq, dk, dv);
  visit_device_float(dout_TC.dtype(), [&]<class T>() {
    visit_columns<64>(q.head_dim, [&]<int kColumns>() {
      run_tiles<T, kColumns>(p, TileOf::kKeys, backward_keys<T, kColumns>);
      run_tiles<T, kColumns>(p, TileOf::kRows, backward_queries<T, kColumns>);
    });
  });
}

REGISTER_KERNEL(attention_backward, kCuda, plain, backward);

}  // namespace
}  // namespace ink::plain

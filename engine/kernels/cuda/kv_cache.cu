// Copies new keys and values to their places in the blocks of a cache, a token per block of
// threads: one read and one write an element.
#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/attention.h"

namespace ink {
namespace {

// The heads of a row: where they are read. In the cache they follow each other.
struct SourceHeads {
  int count, head_dim, first, per_group, group_stride;
  __device__ int column(int head) const {
    return first + head / per_group * group_stride + head % per_group * head_dim;
  }
};

struct CacheTables {
  int sequences, block;
  const int32_t* cu_queries;
  const int32_t* lengths;
  Matrix<const int32_t> blocks;
};

// The sequence with cu_queries[s] <= t < cu_queries[s + 1]; t is before the last of them.
__device__ __forceinline__ int sequence_of(int t, const CacheTables& tables) {
  int low = 0, high = tables.sequences;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (tables.cu_queries[middle] <= t ? low : high) = middle;
  }
  return low;
}

template <class T, int N>
__device__ __forceinline__ void copy_heads(const SourceHeads& heads, const T* from, T* to) {
  const int per_head = heads.head_dim / N;
  for (int i = static_cast<int>(threadIdx.x); i < heads.count * per_head;
       i += static_cast<int>(blockDim.x)) {
    const int head = i / per_head, column = i % per_head * N;
    store_pack(to + head * heads.head_dim + column,
               load_pack<N>(from + heads.column(head) + column));
  }
}

// Tokens after the last query are padding and go nowhere.
template <class T, int N>
__global__ void append_tokens(CacheTables tables, SourceHeads k_heads, SourceHeads v_heads,
                              Matrix<const T> k, Matrix<const T> v, Matrix<T> k_cache,
                              Matrix<T> v_cache) {
  const int t = static_cast<int>(blockIdx.x);
  if (t >= tables.cu_queries[tables.sequences]) return;
  const int s = sequence_of(t, tables);
  const int key = tables.lengths[s] - (tables.cu_queries[s + 1] - t);
  const int64_t row =
      int64_t{tables.blocks.row(s)[key / tables.block]} * tables.block + key % tables.block;
  copy_heads<T, N>(k_heads, k.row(t), k_cache.row(row));
  copy_heads<T, N>(v_heads, v.row(t), v_cache.row(row));
}

SourceHeads source_heads(const HeadsView& view) {
  (void)row_columns(view.x_TC.cols());
  return {static_cast<int>(view.heads), static_cast<int>(view.head_dim),
          static_cast<int>(view.first), static_cast<int>(view.per_group),
          static_cast<int>(view.group_stride)};
}

bool heads_on_accesses(const HeadsView& view, int64_t elements) {
  return view.head_dim % elements == 0 && view.first % elements == 0 &&
         view.group_stride % elements == 0;
}

void append(const HeadsView& k, const HeadsView& v, KvCacheView& cache) {
  if (cache.cached_lengths.numel() == 0) return;
  const CacheTables tables{static_cast<int>(cache.cached_lengths.numel()),
                           static_cast<int>(cache.block), cache.cu_queries.data<int32_t>(),
                           cache.cached_lengths.data<int32_t>(),
                           matrix<const int32_t>(cache.block_table)};
  visit_device_float(k.x_TC.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, k.x_TC) && packed_rows(kPack, v.x_TC) &&
                        packed_rows(kPack, cache.k, cache.v) && heads_on_accesses(k, kPack) &&
                        heads_on_accesses(v, kPack);
    launch(cuda_backend(cache.k), "kv_cache_append",
           {.grid = dim3(blocks_for(k.x_TC.rows(), 1), 1, 1), .block = dim3(128, 1, 1)},
           packed ? append_tokens<T, kPack> : append_tokens<T, 1>, tables, source_heads(k),
           source_heads(v), matrix<const T>(k.x_TC), matrix<const T>(v.x_TC), matrix<T>(cache.k),
           matrix<T>(cache.v));
  });
}

REGISTER_KERNEL(kv_cache_append, kCuda, packed, append);

}  // namespace
}  // namespace ink

// Copies new keys and values to their places in the blocks of a cache, a token per block of
// threads: one read and one write an element.
#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/attention.h"

namespace ink {
namespace {

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
__device__ __forceinline__ void copy_row(int columns, const T* from, T* to) {
  for (int i = static_cast<int>(threadIdx.x) * N; i < columns;
       i += static_cast<int>(blockDim.x) * N)
    store_pack(to + i, load_pack<N>(from + i));
}

// Tokens after the last query are padding and go nowhere.
template <class T, int N>
__global__ void append_tokens(CacheTables tables, int columns, Matrix<const T> k, Matrix<const T> v,
                              Matrix<T> k_cache, Matrix<T> v_cache) {
  const int t = static_cast<int>(blockIdx.x);
  if (t >= tables.cu_queries[tables.sequences]) return;
  const int s = sequence_of(t, tables);
  const int key = tables.lengths[s] - (tables.cu_queries[s + 1] - t);
  const int64_t row =
      int64_t{tables.blocks.row(s)[key / tables.block]} * tables.block + key % tables.block;
  copy_row<T, N>(columns, k.row(t), k_cache.row(row));
  copy_row<T, N>(columns, v.row(t), v_cache.row(row));
}

void append(const Tensor& k_TC, const Tensor& v_TC, KvCacheView& cache) {
  if (cache.cached_lengths.numel() == 0) return;
  const CacheTables tables{static_cast<int>(cache.cached_lengths.numel()),
                           static_cast<int>(cache.block), cache.cu_queries.data<int32_t>(),
                           cache.cached_lengths.data<int32_t>(),
                           matrix<const int32_t>(cache.block_table)};
  visit_device_float(k_TC.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    const bool packed = packed_rows(kPack, k_TC, v_TC) && packed_rows(kPack, cache.k, cache.v);
    launch(cuda_backend(cache.k), "kv_cache_append",
           {.grid = dim3(blocks_for(k_TC.rows(), 1), 1, 1), .block = dim3(128, 1, 1)},
           packed ? append_tokens<T, kPack> : append_tokens<T, 1>, tables, row_columns(k_TC.cols()),
           matrix<const T>(k_TC), matrix<const T>(v_TC), matrix<T>(cache.k), matrix<T>(cache.v));
  });
}

REGISTER_KERNEL(kv_cache_append, kCuda, packed, append);

}  // namespace
}  // namespace ink

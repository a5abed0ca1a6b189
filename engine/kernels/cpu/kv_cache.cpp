// Copies new keys and values to their places in the blocks of a cache.
#include <algorithm>

#include "engine/ops/attention.h"

namespace ink {
namespace {

template <class T>
void copy_row(const Tensor& from_TC, int64_t token, T* to) {
  std::copy_n(from_TC.data<T>() + token * from_TC.row_stride(), from_TC.cols(), to);
}

template <class T>
void append_sequence(const Tensor& k_TC, const Tensor& v_TC, KvCacheView& cache, int64_t s) {
  const auto* cu_queries = cache.cu_queries.data<int32_t>();
  const int64_t first = cu_queries[s], count = cu_queries[s + 1] - first;
  const int64_t length = cache.cached_lengths.data<int32_t>()[s];
  const auto* blocks = cache.block_table.data<int32_t>() + s * cache.block_table.row_stride();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t key = length - count + i;
    const int64_t row = blocks[key / cache.block] * cache.block + key % cache.block;
    copy_row<T>(k_TC, first + i, cache.k.data<T>() + row * cache.k.row_stride());
    copy_row<T>(v_TC, first + i, cache.v.data<T>() + row * cache.v.row_stride());
  }
}

// Sequences own different blocks.
void append(const Tensor& k_TC, const Tensor& v_TC, KvCacheView& cache) {
  const int64_t sequences = cache.cached_lengths.numel();
  visit_float(k_TC.dtype(), [&]<class T>() {
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < sequences; ++s) append_sequence<T>(k_TC, v_TC, cache, s);
  });
}

REGISTER_KERNEL(kv_cache_append, kCpu, plain, append);

}  // namespace
}  // namespace ink

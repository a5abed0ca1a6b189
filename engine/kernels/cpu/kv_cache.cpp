// Copies new keys and values to their places in the blocks of a cache.
#include <cstring>

#include "engine/ops/attention.h"

namespace ink {
namespace {

template <class T>
void copy_heads(const HeadsView& from, int64_t token, T* to) {
  const T* row = from.x_TC.data<T>() + token * from.x_TC.row_stride();
  for (int64_t head = 0; head < from.heads; ++head)
    std::memcpy(to + head * from.head_dim, row + from.column(head),
                static_cast<size_t>(from.head_dim) * sizeof(T));
}

template <class T>
void append_sequence(const HeadsView& k, const HeadsView& v, KvCacheView& cache, int64_t s) {
  const auto* cu_queries = cache.cu_queries.data<int32_t>();
  const int64_t first = cu_queries[s], count = cu_queries[s + 1] - first;
  const int64_t length = cache.cached_lengths.data<int32_t>()[s];
  const auto* blocks = cache.block_table.data<int32_t>() + s * cache.block_table.row_stride();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t key = length - count + i;
    const int64_t row = blocks[key / cache.block] * cache.block + key % cache.block;
    copy_heads<T>(k, first + i, cache.k.data<T>() + row * cache.k.row_stride());
    copy_heads<T>(v, first + i, cache.v.data<T>() + row * cache.v.row_stride());
  }
}

// Sequences own different blocks.
void append(const HeadsView& k, const HeadsView& v, KvCacheView& cache) {
  const int64_t sequences = cache.cached_lengths.numel();
  visit_float(k.x_TC.dtype(), [&]<class T>() {
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < sequences; ++s) append_sequence<T>(k, v, cache, s);
  });
}

REGISTER_KERNEL(kv_cache_append, kCpu, plain, append);

}  // namespace
}  // namespace ink

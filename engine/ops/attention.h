// Causal attention inside documents: softmax(q k^T / sqrt(D)) v, where a query sees the keys of its
// own document up to itself. H query heads share K key/value heads. Scores are never held as a
// whole; softmax in f32 (f64 for f64).
//
// Heads lie side by side in rows that may be strided; rope_qkv() makes such rows of a fused wqkv.
// lse_HT is the log-sum-exp of every row, kept for backward.
#pragma once

#include <vector>

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

// Head j of a row starts at column j * head_dim.
struct HeadsView {
  Tensor x_TC;
  int64_t head_dim = 0;
  [[nodiscard]] int64_t heads() const { return x_TC.cols() / head_dim; }
};

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
};

// Documents of a packed stream of T tokens: document d is [cu_seqlens[d], cu_seqlens[d + 1]). Empty
// ones are allowed.
struct Documents {
  Tensor cu_seqlens;  // i32, on the device, starts at 0 and ends at T
  int64_t max_seqlen = 0;
};

// q is [T, H * D], k and v are [T, K * D]; the result is [T, H * D].
[[nodiscard]] Tensor attention(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC,
                               const AttentionShape& shape, const Documents& documents);

DECLARE_KERNEL(attention_forward, void(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                                       const Documents& documents, Tensor& out_TC, Tensor& lse_HT));
DECLARE_KERNEL(attention_backward,
               void(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                    const HeadsView& v, const Tensor& out_TC, const Tensor& lse_HT,
                    const Documents& documents, HeadsView& dq, HeadsView& dk, HeadsView& dv));

// Generation: each sequence s has queries [cu_queries[s], cu_queries[s + 1]) that are the last ones
// of its cached_lengths[s] keys (the new ones are already in the cache). Keys and values lie in
// blocks of `block` tokens: row block_table[s][i] * block + offset of cache [blocks * block, K *
// D].
struct KvCacheView {
  Tensor k, v;            // one layer's cache
  Tensor block_table;     // i32 [sequences, blocks per sequence]
  Tensor cached_lengths;  // i32 [sequences], the new tokens included
  Tensor cu_queries;      // i32 [sequences + 1]
  int64_t block = 0;
};
// Writes the new tokens' keys (already rotated) and values into the cache.
DECLARE_KERNEL(kv_cache_append, void(const Tensor& k_TC, const Tensor& v_TC, KvCacheView& cache));
DECLARE_KERNEL(attention_cached,
               void(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC));

}  // namespace ink

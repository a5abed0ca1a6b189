// The keys and values of the sequences that are being generated, in blocks, one cache per layer.
//
// The same model code serves training (no view) and generation: attention appends the new tokens'
// keys and values and reads the cache. A contiguous cache is one long block per sequence.
#pragma once

#include <vector>

#include "engine/ops/attention.h"

namespace ink {

struct KvView {
  std::vector<Tensor> k, v;  // per local layer: [blocks * block, K * D]
  Tensor block_table;        // i32 [sequences, blocks per sequence]
  Tensor cached_lengths;     // i32 [sequences], the tokens of this call included
  Tensor cu_queries;         // i32 [sequences + 1]
  int64_t block = 0;

  [[nodiscard]] KvCacheView layer(int64_t i) const {
    return {k[static_cast<size_t>(i)],
            v[static_cast<size_t>(i)],
            block_table,
            cached_lengths,
            cu_queries,
            block};
  }
};

}  // namespace ink

// Which part of an attention a block computes, for every candidate.
#pragma once

#include <cuda_runtime.h>

#include "engine/kernels/cuda/attention_rows.h"

namespace ink {

// What a block works on: an item, a key head, and the query heads [head, head + ratio) that share
// it. The key heads of an item follow each other, so that their rows are in L2.
struct BlockPlace {
  AttentionItem item;
  FastDivide ratio;
  int32_t kv_head, head;

  // Arguments: items, kv_heads, ratio.
  template <class Arguments>
  __device__ __forceinline__ explicit BlockPlace(const Arguments& a) : ratio(a.ratio) {
    const auto block = static_cast<int32_t>(blockIdx.x);
    const int32_t at = a.kv_heads.quotient(block);
    kv_head = block - at * a.kv_heads.divisor();
    head = kv_head * ratio.divisor();
    item = a.items[at];
  }
  [[nodiscard]] __device__ __forceinline__ bool empty() const { return item.queries == 0; }
  // The item's tile of rows.
  [[nodiscard]] __device__ __forceinline__ RowTile rows(int size) const {
    return {item, item.tile * size, size, ratio};
  }
  // The heads of the block's group, where head_dim is the kernel's own.
  template <int kDim, class T>
  [[nodiscard]] __device__ __forceinline__ Heads<T> group(const Heads<T>& heads) const {
    return {heads.at(0, head), heads.row_stride, kDim};
  }
};

}  // namespace ink

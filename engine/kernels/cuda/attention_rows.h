// What the attention kernels of the card share: where heads lie, what a row is, the items of a
// launch.
//
// The H / K query heads that share a key head attend together: row m of a sequence is its query m /
// ratio in head m % ratio of the group. A tile of rows then reads every key once for all of them,
// and short documents fill a tile better. Tiles are counted from the start of a sequence, so a
// result does not depend on what else is in the batch.
#pragma once

#include <cstdint>

#include "engine/kernels/cuda/fast_divide.h"
#include "engine/ops/attention.h"

namespace ink {

// HeadsView on device memory.
template <class T>
struct Heads {
  T* data = nullptr;
  int64_t row_stride = 0;
  int32_t head_dim = 0;

  INK_HOST_DEVICE T* at(int64_t row, int32_t head) const {
    return data + row * row_stride + int64_t{head} * head_dim;
  }
};

template <class T>
[[nodiscard]] Heads<T> heads_of(const HeadsView& view) {
  return {view.x_TC.data<std::remove_const_t<T>>(), view.x_TC.row_stride(),
          static_cast<int32_t>(view.head_dim)};
}

// Every head of every row starts on 16 bytes.
[[nodiscard]] inline bool heads_on_16_bytes(const Tensor& x_TC, int64_t head_dim) {
  const int64_t size = size_of(x_TC.dtype());
  return reinterpret_cast<uintptr_t>(x_TC.raw()) % 16 == 0 && head_dim * size % 16 == 0 &&
         x_TC.row_stride() * size % 16 == 0;
}
[[nodiscard]] inline bool heads_on_16_bytes(const HeadsView& view) {
  return heads_on_16_bytes(view.x_TC, view.head_dim);
}

// One tile of one sequence. A tile without queries is no work.
struct alignas(32) AttentionItem {
  int32_t first_query = 0, queries = 0, keys = 0, sequence = 0, tile = 0;
  int32_t unused[3] = {};
};

// Up to `size` of a sequence's rows.
struct RowTile {
  int32_t first, count;               // of the sequence's rows
  int32_t first_token, offset, keys;  // offset: position of query 0; keys: those the tile sees
  FastDivide ratio;

  INK_HOST_DEVICE RowTile(const AttentionItem& item, int32_t first_row, int32_t size,
                          const FastDivide& heads_per_key)
      : first(first_row),
        first_token(item.first_query),
        offset(item.keys - item.queries),
        ratio(heads_per_key) {
    const int32_t left = item.queries * ratio.divisor() - first;
    count = left < size ? left : size;
    keys = offset + query(count - 1) + 1;
  }
  INK_HOST_DEVICE int32_t query(int row) const { return ratio.quotient(first + row); }
  // Of the group.
  INK_HOST_DEVICE int32_t head(int row, int32_t query) const {
    return first + row - query * ratio.divisor();
  }
  INK_HOST_DEVICE int64_t token(int32_t query) const { return first_token + query; }
  INK_HOST_DEVICE int32_t position(int row) const { return offset + query(row); }
  // Where the row lies in the heads of its group.
  template <class T>
  INK_HOST_DEVICE T* in(const Heads<T>& group, int row) const {
    const int32_t at = query(row);
    return group.at(token(at), head(row, at));
  }
  // Where it lies in statistics [H, tokens] of the group whose first head is first_head.
  INK_HOST_DEVICE int64_t statistic(int32_t first_head, int64_t tokens, int row) const {
    const int32_t at = query(row);
    return (first_head + head(row, at)) * tokens + token(at);
  }
};

// Where the keys of a sequence lie: one after the other from the sequence's first token, or in the
// blocks of a cache.
struct KeyRows {
  const int32_t* table = nullptr;  // [sequences, stride]; null: contiguous
  int64_t stride = 0;
  FastDivide block;
};
template <bool kPaged>
INK_HOST_DEVICE int64_t key_row(const KeyRows& rows, const AttentionItem& item, int32_t key) {
  if constexpr (!kPaged) return int64_t{item.first_query} + key;
  const int32_t page = rows.block.quotient(key), size = rows.block.divisor();
  return int64_t{rows.table[item.sequence * rows.stride + page]} * size + key - page * size;
}
[[nodiscard]] inline KeyRows key_rows_of(const KvCacheView& cache) {
  return {cache.block_table.data<int32_t>(), cache.block_table.row_stride(),
          FastDivide(cache.block)};
}

// Sequences as they lie in device memory: queries [bounds[s], bounds[s + 1]) are the last ones of
// lengths[s] keys; without lengths they are all of them.
struct AttentionSequences {
  const int32_t* bounds = nullptr;
  const int32_t* lengths = nullptr;
  int32_t count = 0;
};
[[nodiscard]] inline AttentionSequences sequences_of(const Documents& documents) {
  return {documents.cu_seqlens.data<int32_t>(), nullptr,
          static_cast<int32_t>(documents.cu_seqlens.numel() - 1)};
}
[[nodiscard]] inline AttentionSequences sequences_of(const KvCacheView& cache) {
  return {cache.cu_queries.data<int32_t>(), cache.cached_lengths.data<int32_t>(),
          static_cast<int32_t>(cache.cached_lengths.numel())};
}

// Generation, not a prompt: few new tokens per sequence, on average.
inline constexpr int64_t kMaxGenerated = 2;
[[nodiscard]] inline bool generates(const HeadsView& q, const KvCacheView& cache) {
  return q.x_TC.rows() <= kMaxGenerated * cache.cached_lengths.numel();
}

enum class TileOf : uint8_t {
  kRows,  // a later tile of a sequence sees more keys
  kKeys,  // an earlier tile is seen by more queries
};
struct TilePlan {
  TileOf of = TileOf::kRows;
  int64_t size = 0;  // rows or keys
  int64_t ratio = 1;
};

// Every tile of every sequence as an AttentionItem, costly ones first: [items, bytes] of workspace.
// The host knows only how many there can be, tokens * ratio / size + sequences; the rest is empty.
[[nodiscard]] Tensor plan_attention(const AttentionSequences& sequences, const TilePlan& plan,
                                    const Tensor& rows_TC);

}  // namespace ink

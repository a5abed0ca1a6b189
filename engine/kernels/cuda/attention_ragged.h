// A packed stream as a library of padded batches wants it: lengths and element offsets per
// document, statistics by token. Small copies beside an attention.
#pragma once

#include <span>

#include "engine/ops/attention.h"

namespace ink {

// Of B documents, both i32 workspace: lengths [B]; offsets [strides, B + 1], where a document
// starts in a tensor whose tokens lie `stride` elements apart. Empty documents come behind all
// others: no attention crosses documents, and libraries differ in what they make of one between
// others.
struct RaggedBounds {
  static constexpr size_t kMostStrides = 9;
  Tensor lengths, offsets;
};
[[nodiscard]] RaggedBounds ragged_bounds(const Documents& documents,
                                         std::span<const int64_t> strides);

// f32 [R, C] -> [C, R].
void transpose_statistics(const Tensor& from, Tensor& to);

}  // namespace ink

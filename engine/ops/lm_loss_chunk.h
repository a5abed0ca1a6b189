// How lm_loss cuts its rows, for it and for who adds up its memory beforehand.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/core/device.h"
#include "engine/core/dtype.h"

namespace ink {

// Rows of a chunk. Equal chunks, none above chunk_bytes of logits where a single row is not; long
// ones are whole tiles of a matrix product, so that only the last has a part of one.
[[nodiscard]] constexpr int64_t loss_chunk_rows(int64_t rows, int64_t row_bytes,
                                                int64_t chunk_bytes) {
  constexpr int64_t kTile = 128;
  int64_t most = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, row_bytes));
  if (most >= kTile) most -= most % kTile;
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  const int64_t equal = (rows + chunks - 1) / chunks;
  return most >= kTile && chunks > 1 ? (equal + kTile - 1) / kTile * kTile : equal;
}

// What decides how the rows are cut and what that takes.
struct LossShape {
  int64_t rows = 0, vocabulary = 0, width = 0;  // T, V, C
  DType logits = DType::kF32, dlogits = DType::kF32;
  DType dw = DType::kF32;
};

// Logits are made `chunk` rows at a time. Their gradient waits until there are `group` rows of it:
// then come its two products, of which one adds to the whole gradient of the weight. sums: that
// gradient is narrower than f32 and made of several groups, which meet in f32.
struct LossRows {
  int64_t chunk = 0, group = 0;
  bool sums = false;

  [[nodiscard]] int64_t bytes(const LossShape& shape) const {
    const bool own = shape.dlogits != shape.logits;
    return shape.vocabulary *
           (chunk * size_of(shape.logits) + (own ? group * size_of(shape.dlogits) : 0) +
            (sums ? shape.width * size_of(DType::kF32) : 0));
  }
};

// On the processor a group is a chunk: its products find it in the cache. On a card the gradient
// of three chunks takes one and a half times what the logits of one take, and a product that adds
// to an f32 gradient of V * C elements moves 8 bytes for 2 * group flops, so 512 rows would be
// bound by memory there. All rows are one group where that takes no more than the sum in f32 would.
[[nodiscard]] inline LossRows loss_rows(const LossShape& shape, Device device,
                                        int64_t chunk_bytes) {
  constexpr int64_t kChunksOfGroup = 3;
  LossRows cut;
  cut.chunk = loss_chunk_rows(shape.rows, shape.vocabulary * size_of(shape.logits), chunk_bytes);
  const bool grouped = device == Device::kCuda && size_of(shape.dlogits) < size_of(shape.logits);
  cut.group = std::min(shape.rows, cut.chunk * (grouped ? kChunksOfGroup : 1));
  cut.sums = size_of(shape.dw) < 4 && cut.group < shape.rows;
  if (cut.sums && grouped) {
    const LossRows whole{.chunk = cut.chunk, .group = shape.rows};
    if (whole.bytes(shape) <= cut.bytes(shape)) cut = whole;
  }
  return cut;
}

}  // namespace ink

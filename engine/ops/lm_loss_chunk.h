// How lm_loss cuts its rows, for it and for who adds up its memory beforehand.
#pragma once

#include <algorithm>
#include <cstdint>

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

}  // namespace ink

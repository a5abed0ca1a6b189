// Tiles of attention in scratch memory: their shapes, which rows and keys they hold, and how rows
// are packed into them. Included by the candidates after their `#pragma GCC target`.
//
// A query tile stacks the r heads that share a kv head: row m is query m / r of the tile, head
// m % r of the group, so that rows are sorted by position and a causal cut is a prefix. Rows are
// padded to whole strips, head_dim to whole vectors, both with zeros.
#pragma once

#include "engine/kernels/cpu/attention_problem.h"
#include "engine/kernels/cpu/attention_tiles.h"

namespace ink {

template <class L>
struct TileShape {
  int64_t rows, head_dim, dim;  // padded rows; head_dim; padded head_dim
  explicit TileShape(const AttentionProblem& problem)
      : rows((problem.query_tile() * problem.ratio() + kStrip - 1) / kStrip * kStrip),
        head_dim(problem.head_dim),
        dim((problem.head_dim + L::kWidth - 1) / L::kWidth * L::kWidth) {}
};

// Rows of q (or dout) of the tile, times scale.
template <class L, class T>
void pack_queries(const RawHeads& from, const TileRows& rows, typename L::Real scale,
                  const TileShape<L>& shape, typename L::Real* to) {
  for (int64_t i = 0; i < rows.ratio; ++i) {
    const T* head = from.at<const T>(rows.first_token, rows.first_head + i);
    for (int64_t m = i; m < rows.count; m += rows.ratio, head += from.row_stride)
      pack_row<L>(head, shape.head_dim, shape.dim, scale, to + m * shape.dim);
  }
  fill_zero(to + rows.count * shape.dim, (shape.rows - rows.count) * shape.dim);
}

// Rows [first_key, + keys) of k or v, and their transpose [dim, kKeyTile] where asked. The rest of
// the tile is zero.
template <class L, class T>
void pack_keys(const AttentionProblem& problem, const RawHeads& from,
               const AttentionSequence& sequence, int64_t kv_head, int64_t first_key, int64_t keys,
               const TileShape<L>& shape, typename L::Real* to, typename L::Real* transposed) {
  for (int64_t n = 0; n < keys; ++n)
    pack_row<L>(from.at<const T>(problem.key_row(sequence, first_key + n), kv_head), shape.head_dim,
                shape.dim, typename L::Real(1), to + n * shape.dim);
  fill_zero(to + keys * shape.dim, (kKeyTile - keys) * shape.dim);
  if (transposed != nullptr) transpose<L>(to, shape.dim, kKeyTile, shape.dim, transposed, kKeyTile);
}

template <class L, class T>
void unpack_row(const typename L::Real* from, int64_t n, typename L::Real scale, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(scale * from[i]);
}

}  // namespace ink

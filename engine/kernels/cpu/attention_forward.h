// One forward item of attention: a tile of queries of one kv head against all keys it may see, by
// online softmax (Milakov and Gimelshein, "Online normalizer calculation for softmax"; tiled as in
// Dao et al., "FlashAttention"). Included by the candidates after their `#pragma GCC target`.
#pragma once

#include "engine/kernels/cpu/attention_problem.h"
#include "engine/kernels/cpu/attention_scratch.h"

namespace ink {

template <class L>
struct ForwardScratch {
  using Real = typename L::Real;
  TileShape<L> shape;
  Real *q, *o, *row_max, *row_sum, *k, *k_t, *v, *p;

  ForwardScratch(const AttentionProblem& problem, Arena<Real>& arena) : shape(problem) {
    q = arena.take(shape.rows * shape.dim);
    o = arena.take(shape.rows * shape.dim);
    row_max = arena.take(shape.rows);
    row_sum = arena.take(shape.rows * L::kWidth);  // lane-wise until the end
    k = arena.take(kKeyTile * shape.dim);
    k_t = arena.take(shape.dim * kKeyTile);
    v = arena.take(kKeyTile * shape.dim);
    p = arena.take(kStrip * kKeyTile);
  }
};

// Scores of one row -> probabilities; rescales what the row has summed up so far. The first
// `visible` keys count, the row is `vectors` vectors wide.
template <class L>
void softmax_row(typename L::Real* scores, int64_t visible, int64_t vectors, int64_t dim,
                 typename L::Real& row_max, typename L::Real* row_sum, typename L::Real* o) {
  using Real = typename L::Real;
  using Vec = typename L::Vec;
  constexpr int kWidth = L::kWidth;
  for (int64_t c = visible; c < vectors * kWidth; ++c) scores[c] = -INFINITY;
  Vec most = load<L>(scores);
  for (int64_t j = 1; j < vectors; ++j) most = larger<L>(load<L>(scores + j * kWidth), most);
  const Real before = row_max, tile_max = max_of<L>(most);
  const Real now = tile_max > before ? tile_max : before;
  row_max = now;
  Vec sum = load<L>(row_sum);
  if (now != before) {
    const Real shrink = exp_scalar<L>(before - now);
    sum *= shrink;
    for (int64_t d = 0; d < dim; d += kWidth) store<L>(o + d, shrink * load<L>(o + d));
  }
  for (int64_t j = 0; j < vectors; ++j) {
    const Vec p = exp_lanes<L>(load<L>(scores + j * kWidth) - now);
    store<L>(scores + j * kWidth, p);
    sum += p;
  }
  store<L>(row_sum, sum);
}

template <class L>
void forward_tile(const TileRows& rows, int64_t first_key, int64_t keys,
                  const ForwardScratch<L>& s) {
  const int64_t dim = s.shape.dim;
  for (int64_t m = 0; m < rows.count; m += kStrip) {
    const int64_t limit = rows.visible(m + kStrip - 1, first_key, keys);
    if (limit == 0) continue;
    const int64_t vectors = (limit + L::kWidth - 1) / L::kWidth;
    multiply_strip<L, Product::kSet>({s.q + m * dim, dim, 1}, s.k_t, kKeyTile, s.shape.head_dim,
                                     vectors, s.p, kKeyTile);
    for (int i = 0; i < kStrip; ++i)
      softmax_row<L>(s.p + i * kKeyTile, rows.visible(m + i, first_key, keys), vectors, dim,
                     s.row_max[m + i], s.row_sum + (m + i) * L::kWidth, s.o + (m + i) * dim);
    multiply_strip<L, Product::kAdd>({s.p, kKeyTile, 1}, s.v, dim, limit, dim / L::kWidth,
                                     s.o + m * dim, dim);
  }
}

template <class L, class T>
void forward_item(const AttentionProblem& problem, const AttentionItem& item, std::byte* memory) {
  using Real = typename L::Real;
  Arena<Real> arena(memory);
  const ForwardScratch<L> s(problem, arena);
  const AttentionSequence& sequence = problem.sequences[static_cast<size_t>(item.sequence)];
  const TileRows rows(problem, sequence, item.kv_head, item.tile);
  const Real scale = Real(1) / std::sqrt(static_cast<Real>(problem.head_dim));
  pack_queries<L, T>(problem.q, rows, scale, s.shape, s.q);
  fill_zero(s.o, s.shape.rows * s.shape.dim);
  fill_zero(s.row_sum, s.shape.rows * L::kWidth);
  for (int64_t m = 0; m < s.shape.rows; ++m) s.row_max[m] = -INFINITY;

  const int64_t seen = rows.last_key() + 1;
  for (int64_t k0 = 0; k0 < seen; k0 += kKeyTile) {
    const int64_t keys = seen - k0 < kKeyTile ? seen - k0 : kKeyTile;
    pack_keys<L, T>(problem, problem.k, sequence, item.kv_head, k0, keys, s.shape, s.k, s.k_t);
    pack_keys<L, T>(problem, problem.v, sequence, item.kv_head, k0, keys, s.shape, s.v, nullptr);
    forward_tile<L>(rows, k0, keys, s);
  }
  for (int64_t m = 0; m < rows.count; ++m) {
    const Real sum = sum_of<L>(load<L>(s.row_sum + m * L::kWidth));
    unpack_row<L, T>(s.o + m * s.shape.dim, problem.head_dim, Real(1) / sum,
                     problem.out.at<T>(rows.token(m), rows.head(m)));
    if (problem.lse != nullptr)
      static_cast<Real*>(problem.lse)[rows.head(m) * problem.tokens + rows.token(m)] =
          s.row_max[m] + std::log(sum);
  }
}

template <class L>
int64_t forward_scratch_bytes(const AttentionProblem& problem) {
  Arena<typename L::Real> measure(nullptr);
  const ForwardScratch<L> scratch(problem, measure);
  return measure.bytes();
}

}  // namespace ink

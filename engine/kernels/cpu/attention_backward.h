// Backward items of attention. With P = exp(S - lse), D = rowsum(dO * O) and dS = P * (dO V^T - D):
//   dV = P^T dO     dK = dS^T Q / sqrt(d)     dQ = dS K / sqrt(d)
// (Dao, "FlashAttention-2"). Scores are computed again tile by tile. Every tile product is the same
// code in the same order whether an item does all three gradients or some, so splitting a sequence
// changes no bit. Included by the candidates after their `#pragma GCC target`.
#pragma once

#include "engine/kernels/cpu/attention_problem.h"
#include "engine/kernels/cpu/attention_scratch.h"

namespace ink {

// A strip of keys reads up to kStrip - 1 columns past the last vector of a row: zeros.
template <class L>
inline constexpr int64_t kScorePadding = L::kWidth < 8 ? 8 : L::kWidth;
template <class L>
inline constexpr int64_t kScoreStride = kKeyTile + kScorePadding<L>;
inline constexpr int64_t kKeyRows = (kKeyTile + kStrip - 1) / kStrip * kStrip;

// What a query tile brings: its rows, q scaled, and what backward needs of them.
template <class L>
struct QueryTile {
  using Real = typename L::Real;
  Real *q, *dout, *dq, *lse, *delta;
};

template <class L>
struct BackwardScratch {
  using Real = typename L::Real;
  TileShape<L> shape;
  QueryTile<L> queries;               // of one tile, or of all of a sequence
  Real *k, *k_t, *v, *v_t, *dk, *dv;  // of a key tile
  Real *p, *ds;                       // of a query tile and a key tile

  BackwardScratch(const AttentionProblem& problem, int64_t query_tiles, Arena<Real>& arena)
      : shape(problem) {
    k = arena.take(kKeyTile * shape.dim);
    k_t = arena.take(kKeyTile * shape.dim);
    v = arena.take(kKeyTile * shape.dim);
    v_t = arena.take(kKeyTile * shape.dim);
    dk = arena.take(kKeyRows * shape.dim);
    dv = arena.take(kKeyRows * shape.dim);
    p = arena.take(shape.rows * kScoreStride<L>);
    ds = arena.take(shape.rows * kScoreStride<L>);
    queries = {arena.take(query_tiles * shape.rows * shape.dim),
               arena.take(query_tiles * shape.rows * shape.dim),
               arena.take(query_tiles * shape.rows * shape.dim),
               arena.take(query_tiles * shape.rows), arena.take(query_tiles * shape.rows)};
  }
  [[nodiscard]] QueryTile<L> tile(int64_t i) const {
    const int64_t rows = i * shape.rows, elements = rows * shape.dim;
    return {queries.q + elements, queries.dout + elements, queries.dq + elements,
            queries.lse + rows, queries.delta + rows};
  }
};

// P and dS of one row from its scores and dO V^T, both in place.
template <class L>
void gradient_row(int64_t visible, int64_t vectors, typename L::Real lse, typename L::Real delta,
                  typename L::Real* p, typename L::Real* ds) {
  using Vec = typename L::Vec;
  constexpr int kWidth = L::kWidth;
  for (int64_t c = visible; c < vectors * kWidth; ++c) p[c] = -INFINITY;
  for (int64_t c = 0; c < vectors * kWidth; c += kWidth) {
    const Vec probability = exp_lanes<L>(load<L>(p + c) - lse);
    store<L>(p + c, probability);
    store<L>(ds + c, probability * (load<L>(ds + c) - delta));
  }
  for (int64_t c = vectors * kWidth; c < vectors * kWidth + kScorePadding<L>; c += kWidth) {
    store<L>(p + c, Vec{});
    store<L>(ds + c, Vec{});
  }
}

enum class AddToDq : uint8_t { kNo, kYes };

// Fills p and ds of a pair of tiles.
template <class L>
void score_gradients(const TileRows& rows, const QueryTile<L>& tile, int64_t first_key,
                     int64_t keys, const BackwardScratch<L>& s, AddToDq add) {
  const int64_t dim = s.shape.dim;
  constexpr int64_t kStride = kScoreStride<L>;
  for (int64_t m = 0; m < rows.count; m += kStrip) {
    const int64_t limit = rows.visible(m + kStrip - 1, first_key, keys);
    if (limit == 0) continue;
    const int64_t vectors = (limit + L::kWidth - 1) / L::kWidth;
    auto* p = s.p + m * kStride;
    auto* ds = s.ds + m * kStride;
    multiply_strip<L, Product::kSet>({tile.q + m * dim, dim, 1}, s.k_t, kKeyTile, s.shape.head_dim,
                                     vectors, p, kStride);
    multiply_strip<L, Product::kSet>({tile.dout + m * dim, dim, 1}, s.v_t, kKeyTile,
                                     s.shape.head_dim, vectors, ds, kStride);
    for (int i = 0; i < kStrip; ++i)
      gradient_row<L>(rows.visible(m + i, first_key, keys), vectors, tile.lse[m + i],
                      tile.delta[m + i], p + i * kStride, ds + i * kStride);
    if (add == AddToDq::kYes)
      multiply_strip<L, Product::kAdd>({ds, kStride, 1}, s.k, dim, limit, dim / L::kWidth,
                                       tile.dq + m * dim, dim);
  }
}

// dk and dv of the key tile from p and ds. Rows before the first that sees a strip's keys hold
// nothing of it.
template <class L>
void key_gradients(const TileRows& rows, const QueryTile<L>& tile, int64_t first_key, int64_t keys,
                   const BackwardScratch<L>& s) {
  const int64_t dim = s.shape.dim;
  constexpr int64_t kStride = kScoreStride<L>;
  for (int64_t n = 0; n < keys; n += kStrip) {
    const int64_t m = rows.first_row(first_key + n);
    if (m >= rows.count) break;
    multiply_strip<L, Product::kAdd>({s.p + m * kStride + n, 1, kStride}, tile.dout + m * dim, dim,
                                     rows.count - m, dim / L::kWidth, s.dv + n * dim, dim);
    multiply_strip<L, Product::kAdd>({s.ds + m * kStride + n, 1, kStride}, tile.q + m * dim, dim,
                                     rows.count - m, dim / L::kWidth, s.dk + n * dim, dim);
  }
}

template <class L, class T>
class BackwardItem {
  using Real = typename L::Real;

 public:
  BackwardItem(const AttentionProblem& problem, const AttentionItem& item,
               const BackwardScratch<L>& scratch)
      : problem_(problem),
        item_(item),
        s_(scratch),
        sequence_(problem.sequences[static_cast<size_t>(item.sequence)]),
        scale_(Real(1) / std::sqrt(static_cast<Real>(problem.head_dim))) {}

  void whole_sequence() {
    const int64_t tiles = problem_.query_tiles(sequence_);
    for (int64_t i = 0; i < tiles; ++i) load_queries(rows_of(i), s_.tile(i));
    for (int64_t k0 = 0; k0 < sequence_.keys; k0 += kKeyTile) {
      const int64_t keys = load_keys(k0);
      for (int64_t i = k0 / problem_.query_tile(); i < tiles; ++i)
        pair(rows_of(i), s_.tile(i), k0, keys, AddToDq::kYes);
      write_keys(k0, keys);
    }
    for (int64_t i = 0; i < tiles; ++i) write_dq(rows_of(i), s_.tile(i).dq);
  }

  void key_tile(int64_t tile) {
    const int64_t k0 = tile * kKeyTile, keys = load_keys(k0);
    for (int64_t i = k0 / problem_.query_tile(); i < problem_.query_tiles(sequence_); ++i) {
      const TileRows rows = rows_of(i);
      load_queries(rows, s_.tile(0));
      pair(rows, s_.tile(0), k0, keys, AddToDq::kNo);
    }
    write_keys(k0, keys);
  }

  void query_tile(int64_t tile) {
    const TileRows rows = rows_of(tile);
    load_queries(rows, s_.tile(0));
    for (int64_t k0 = 0; k0 <= rows.last_key(); k0 += kKeyTile) {
      const int64_t keys = load_keys(k0);
      score_gradients<L>(rows, s_.tile(0), k0, keys, s_, AddToDq::kYes);
    }
    write_dq(rows, s_.tile(0).dq);
  }

 private:
  [[nodiscard]] TileRows rows_of(int64_t tile) const {
    return {problem_, sequence_, item_.kv_head, tile};
  }

  void pair(const TileRows& rows, const QueryTile<L>& tile, int64_t k0, int64_t keys,
            AddToDq add) const {
    score_gradients<L>(rows, tile, k0, keys, s_, add);
    key_gradients<L>(rows, tile, k0, keys, s_);
  }

  int64_t load_keys(int64_t k0) const {
    const int64_t left = sequence_.keys - k0, keys = left < kKeyTile ? left : kKeyTile;
    pack_keys<L, T>(problem_, problem_.k, sequence_, item_.kv_head, k0, keys, s_.shape, s_.k,
                    s_.k_t);
    pack_keys<L, T>(problem_, problem_.v, sequence_, item_.kv_head, k0, keys, s_.shape, s_.v,
                    s_.v_t);
    fill_zero(s_.dk, kKeyRows * s_.shape.dim);
    fill_zero(s_.dv, kKeyRows * s_.shape.dim);
    return keys;
  }

  void write_keys(int64_t k0, int64_t keys) const {
    for (int64_t n = 0; n < keys; ++n) {
      const int64_t row = problem_.key_row(sequence_, k0 + n), from = n * s_.shape.dim;
      unpack_row<L, T>(s_.dk + from, problem_.head_dim, Real(1),
                       problem_.dk.at<T>(row, item_.kv_head));
      unpack_row<L, T>(s_.dv + from, problem_.head_dim, Real(1),
                       problem_.dv.at<T>(row, item_.kv_head));
    }
  }

  void load_queries(const TileRows& rows, const QueryTile<L>& tile) const {
    pack_queries<L, T>(problem_.q, rows, scale_, s_.shape, tile.q);
    pack_queries<L, T>(problem_.dout, rows, Real(1), s_.shape, tile.dout);
    fill_zero(tile.dq, s_.shape.rows * s_.shape.dim);
    for (int64_t m = 0; m < s_.shape.rows; ++m) {
      const int64_t at = m < rows.count ? rows.head(m) * problem_.tokens + rows.token(m) : -1;
      tile.lse[m] = at < 0 ? Real(0) : static_cast<const Real*>(problem_.lse)[at];
      tile.delta[m] = at < 0 ? Real(0) : static_cast<const Real*>(problem_.delta)[at];
    }
  }

  void write_dq(const TileRows& rows, const Real* dq) const {
    for (int64_t m = 0; m < rows.count; ++m)
      unpack_row<L, T>(dq + m * s_.shape.dim, problem_.head_dim, scale_,
                       problem_.dq.at<T>(rows.token(m), rows.head(m)));
  }

  const AttentionProblem& problem_;
  const AttentionItem& item_;
  const BackwardScratch<L>& s_;
  const AttentionSequence& sequence_;
  Real scale_;
};

template <class L, class T>
void backward_item(const AttentionProblem& problem, const AttentionItem& item, std::byte* memory) {
  Arena<typename L::Real> arena(memory);
  const BackwardScratch<L> scratch(problem, most_query_tiles(problem), arena);
  BackwardItem<L, T> work(problem, item, scratch);
  if (item.work == AttentionWork::kAll) {
    work.whole_sequence();
  } else if (item.work == AttentionWork::kKeyTile) {
    work.key_tile(item.tile);
  } else {
    work.query_tile(item.tile);
  }
}

template <class L>
int64_t backward_scratch_bytes(const AttentionProblem& problem) {
  Arena<typename L::Real> measure(nullptr);
  const BackwardScratch<L> scratch(problem, most_query_tiles(problem), measure);
  return measure.bytes();
}

template <class L, class T>
typename L::Real dot(const T* a, const T* b, int64_t n) {
  using Real = typename L::Real;
  constexpr int kWidth = L::kWidth;
  const auto product = [=](int64_t i) {
    return static_cast<Real>(static_cast<compute_t<T>>(a[i])) *
           static_cast<Real>(static_cast<compute_t<T>>(b[i]));
  };
  Real sum[kWidth] = {};
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    for (int lane = 0; lane < kWidth; ++lane) sum[lane] += product(i + lane);
  }
  for (; i < n; ++i) sum[0] += product(i);
  return sum_of<L>(load<L>(sum));
}

template <class L, class T>
void fill_delta(const AttentionProblem& problem, int64_t token) {
  auto* delta = static_cast<typename L::Real*>(problem.delta);
  for (int64_t head = 0; head < problem.heads; ++head)
    delta[head * problem.tokens + token] =
        dot<L>(problem.dout.at<const T>(token, head), problem.out.at<const T>(token, head),
               problem.head_dim);
}

}  // namespace ink

// Attention as the CPU kernels see it: raw pointers, sequences, and a list of work items.
//
// Built once per call by attention_problem.cpp, handed to the candidates (attention_{plain,avx2,
// avx512}.cpp), which only bring the function that works on one item. An item owns what it writes
// and tiles are counted from the start of a sequence, so results depend neither on the number of
// threads nor on which thread runs an item, nor on the other sequences of the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/ops/attention.h"

namespace ink {

inline constexpr int64_t kKeyTile = 64;

// HeadsView on raw memory.
struct RawHeads {
  void* data = nullptr;
  int64_t row_stride = 0, head_dim = 0;

  RawHeads() = default;
  explicit RawHeads(const HeadsView& view) : RawHeads(view.x_TC, view.head_dim) {}
  RawHeads(const Tensor& x_TC, int64_t dim)
      : data(x_TC.raw()), row_stride(x_TC.row_stride()), head_dim(dim) {}
  template <class T>
  [[nodiscard]] T* at(int64_t row, int64_t head) const {
    return static_cast<T*>(data) + row * row_stride + head * head_dim;
  }
};

// Queries [first_query, + queries) see the keys of their sequence; query i is key number
// keys - queries + i.
struct AttentionSequence {
  int64_t first_query = 0, queries = 0, first_key = 0, keys = 0;
  const int32_t* blocks = nullptr;  // set: key t lies in row blocks[t / block] * block + t % block
};

enum class AttentionWork : uint8_t {
  kForward,    // one query tile
  kAll,        // backward of a whole sequence
  kKeyTile,    // dk and dv of one key tile
  kQueryTile,  // dq of one query tile
};

struct AttentionItem {
  AttentionWork work = AttentionWork::kForward;
  int64_t sequence = 0, kv_head = 0, tile = 0;
  int64_t cost = 0;  // products of a query row and a key
};

struct AttentionProblem {
  RawHeads q, k, v, out, dout, dq, dk, dv;
  void* lse = nullptr;    // [H, T]; may be absent forward
  void* delta = nullptr;  // [H, T], backward: rowsum(dout * out)
  int64_t tokens = 0, heads = 0, kv_heads = 0, head_dim = 0, block = 1;
  std::vector<AttentionSequence> sequences;
  std::vector<AttentionItem> items;  // most costly first

  [[nodiscard]] int64_t ratio() const { return heads / kv_heads; }
  // Queries per tile: the rows of all heads that share a key are one tile of about 192.
  [[nodiscard]] int64_t query_tile() const { return ratio() >= 24 ? 8 : 192 / ratio(); }
  [[nodiscard]] int64_t query_tiles(const AttentionSequence& s) const {
    return (s.queries + query_tile() - 1) / query_tile();
  }
  [[nodiscard]] int64_t key_row(const AttentionSequence& s, int64_t key) const {
    return s.blocks == nullptr ? s.first_key + key : s.blocks[key / block] * block + key % block;
  }
};

// The rows of one query tile.
struct TileRows {
  int64_t count, first_token, first_head, ratio;
  int64_t first_position;  // of query 0 of the tile among the keys

  TileRows(const AttentionProblem& problem, const AttentionSequence& sequence, int64_t kv_head,
           int64_t tile)
      : first_head(kv_head * problem.ratio()), ratio(problem.ratio()) {
    const int64_t first = tile * problem.query_tile();
    const int64_t left = sequence.queries - first;
    count = (left < problem.query_tile() ? left : problem.query_tile()) * ratio;
    first_token = sequence.first_query + first;
    first_position = sequence.keys - sequence.queries + first;
  }
  [[nodiscard]] int64_t token(int64_t m) const { return first_token + m / ratio; }
  [[nodiscard]] int64_t head(int64_t m) const { return first_head + m % ratio; }
  [[nodiscard]] int64_t last_key() const { return first_position + count / ratio - 1; }
  // How many of the tile's keys row m sees; padding rows see what the last row sees.
  [[nodiscard]] int64_t visible(int64_t m, int64_t first_key, int64_t keys) const {
    const int64_t row = m < count ? m : count - 1;
    const int64_t n = first_position + row / ratio + 1 - first_key;
    return n < 0 ? 0 : n < keys ? n : keys;
  }
  // The first row that sees key number `key`.
  [[nodiscard]] int64_t first_row(int64_t key) const {
    return key <= first_position ? 0 : (key - first_position) * ratio;
  }
};

// Hands out 64-byte aligned pieces; with no memory it only counts.
template <class Real>
class Arena {
 public:
  explicit Arena(std::byte* memory) : memory_(memory) {}
  Real* take(int64_t count) {
    Real* piece = memory_ == nullptr ? nullptr : reinterpret_cast<Real*>(memory_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(Real)) + 63) / 64 * 64;
    return piece;
  }
  [[nodiscard]] int64_t bytes() const { return used_; }

 private:
  std::byte* memory_;
  int64_t used_ = 0;
};

template <class Real>
void fill_zero(Real* to, int64_t n) {
  std::memset(to, 0, static_cast<size_t>(n) * sizeof(Real));
}

[[nodiscard]] AttentionProblem forward_problem(const HeadsView& q, const HeadsView& k,
                                               const HeadsView& v, const Documents& documents,
                                               Tensor& out_TC, Tensor& lse_HT);
[[nodiscard]] AttentionProblem cached_problem(const HeadsView& q, const KvCacheView& cache,
                                              Tensor& out_TC);
// Decides between one pass over a (document, kv head) and two passes over its tiles.
[[nodiscard]] AttentionProblem backward_problem(const Tensor& dout_TC, const HeadsView& q,
                                                const HeadsView& k, const HeadsView& v,
                                                const Tensor& out_TC, const Tensor& lse_HT,
                                                const Documents& documents, Tensor& delta_HT,
                                                HeadsView& dq, HeadsView& dk, HeadsView& dv);

// Query tiles that a backward item keeps at once, at most.
[[nodiscard]] int64_t most_query_tiles(const AttentionProblem& problem);

}  // namespace ink

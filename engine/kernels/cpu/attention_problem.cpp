#include "engine/kernels/cpu/attention_problem.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "engine/core/parallel_for.h"

namespace ink {
namespace {

// A whole sequence at once keeps q, dout and dq of a kv head in f32: up to this much per thread.
constexpr int64_t kMostScratchBytes = int64_t{64} << 20;
// Two passes compute the scores and dP twice: 7 products instead of 5.
constexpr double kTwoPassCost = 7.0 / 5.0;

void set_shape(AttentionProblem& problem, const HeadsView& q, const HeadsView& k) {
  problem.heads = q.heads();
  problem.kv_heads = k.heads();
  problem.head_dim = q.head_dim;
  problem.tokens = q.x_TC.rows();
}

void add_documents(AttentionProblem& problem, const Documents& documents) {
  const auto* bounds = documents.cu_seqlens.data<int32_t>();
  for (int64_t d = 0; d + 1 < documents.cu_seqlens.numel(); ++d) {
    const int64_t first = bounds[d], length = bounds[d + 1] - first;
    if (length > 0)
      problem.sequences.push_back(
          {.first_query = first, .queries = length, .first_key = first, .keys = length});
  }
}

void sort_by_cost(std::vector<AttentionItem>& items) {
  std::stable_sort(items.begin(), items.end(),
                   [](const auto& a, const auto& b) { return a.cost > b.cost; });
}

// One item per (sequence, kv head, query tile).
void add_query_tiles(AttentionProblem& problem, int64_t sequence, AttentionWork work) {
  const AttentionSequence& s = problem.sequences[static_cast<size_t>(sequence)];
  for (int64_t tile = 0; tile < problem.query_tiles(s); ++tile) {
    const int64_t first = tile * problem.query_tile();
    const int64_t rows = std::min(problem.query_tile(), s.queries - first);
    for (int64_t head = 0; head < problem.kv_heads; ++head)
      problem.items.push_back({.work = work,
                               .sequence = sequence,
                               .kv_head = head,
                               .tile = tile,
                               .cost = rows * (s.keys - s.queries + first + rows)});
  }
}

void add_key_tiles(AttentionProblem& problem, int64_t sequence) {
  const AttentionSequence& s = problem.sequences[static_cast<size_t>(sequence)];
  for (int64_t k0 = 0; k0 < s.keys; k0 += kKeyTile) {
    for (int64_t head = 0; head < problem.kv_heads; ++head)
      problem.items.push_back({.work = AttentionWork::kKeyTile,
                               .sequence = sequence,
                               .kv_head = head,
                               .tile = k0 / kKeyTile,
                               .cost = kKeyTile * (s.keys - k0)});
  }
}

int64_t sequence_cost(const AttentionSequence& s) { return s.keys * (s.keys + 1) / 2; }

// When the last thread is done if every thread takes the next most costly sequence as it gets free.
int64_t finish_time(const AttentionProblem& problem, int threads) {
  std::vector<int64_t> costs;
  for (const AttentionSequence& s : problem.sequences)
    costs.insert(costs.end(), static_cast<size_t>(problem.kv_heads), sequence_cost(s));
  std::sort(costs.begin(), costs.end(), std::greater<>());
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> free_at;
  for (int i = 0; i < threads; ++i) free_at.push(0);
  int64_t last = 0;
  for (const int64_t cost : costs) {
    const int64_t end = free_at.top() + cost;
    free_at.pop();
    free_at.push(end);
    last = std::max(last, end);
  }
  return last;
}

void add_backward_items(AttentionProblem& problem) {
  const int threads = thread_count();
  int64_t total = 0;
  for (const AttentionSequence& s : problem.sequences) total += sequence_cost(s) * problem.kv_heads;
  const double share = static_cast<double>(total) / threads;
  const bool balanced = static_cast<double>(finish_time(problem, threads)) <= kTwoPassCost * share;
  for (size_t i = 0; i < problem.sequences.size(); ++i) {
    const AttentionSequence& s = problem.sequences[i];
    const auto sequence = static_cast<int64_t>(i);
    const bool fits = 3 * 4 * s.keys * problem.ratio() * problem.head_dim <= kMostScratchBytes;
    if (fits && (balanced || 4 * static_cast<double>(sequence_cost(s)) <= share)) {
      for (int64_t head = 0; head < problem.kv_heads; ++head)
        problem.items.push_back({.work = AttentionWork::kAll,
                                 .sequence = sequence,
                                 .kv_head = head,
                                 .cost = 5 * sequence_cost(s)});
    } else {
      const size_t before = problem.items.size();
      add_key_tiles(problem, sequence);
      for (size_t at = before; at < problem.items.size(); ++at) problem.items[at].cost *= 4;
      const size_t between = problem.items.size();
      add_query_tiles(problem, sequence, AttentionWork::kQueryTile);
      for (size_t at = between; at < problem.items.size(); ++at) problem.items[at].cost *= 3;
    }
  }
}

}  // namespace

AttentionProblem forward_problem(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                                 const Documents& documents, Tensor& out_TC, Tensor& lse_HT) {
  AttentionProblem problem;
  set_shape(problem, q, k);
  problem.q = RawHeads(q);
  problem.k = RawHeads(k);
  problem.v = RawHeads(v);
  problem.out = RawHeads(out_TC, q.head_dim);
  problem.lse = lse_HT.raw();
  add_documents(problem, documents);
  for (size_t i = 0; i < problem.sequences.size(); ++i)
    add_query_tiles(problem, static_cast<int64_t>(i), AttentionWork::kForward);
  sort_by_cost(problem.items);
  return problem;
}

AttentionProblem cached_problem(const HeadsView& q, const KvCacheView& cache, Tensor& out_TC) {
  AttentionProblem problem;
  set_shape(problem, q, {cache.k, q.head_dim});
  problem.block = cache.block;
  problem.q = RawHeads(q);
  problem.k = RawHeads(cache.k, q.head_dim);
  problem.v = RawHeads(cache.v, q.head_dim);
  problem.out = RawHeads(out_TC, q.head_dim);
  const auto* cu_queries = cache.cu_queries.data<int32_t>();
  const auto* lengths = cache.cached_lengths.data<int32_t>();
  const auto* table = cache.block_table.data<int32_t>();
  for (int64_t s = 0; s < cache.cached_lengths.numel(); ++s) {
    const int64_t queries = cu_queries[s + 1] - cu_queries[s];
    if (queries == 0) continue;
    CHECK(lengths[s] >= queries, "[attention_cached] sequence {} has {} keys for {} queries", s,
          lengths[s], queries);
    problem.sequences.push_back({.first_query = cu_queries[s],
                                 .queries = queries,
                                 .keys = lengths[s],
                                 .blocks = table + s * cache.block_table.row_stride()});
    add_query_tiles(problem, static_cast<int64_t>(problem.sequences.size()) - 1,
                    AttentionWork::kForward);
  }
  sort_by_cost(problem.items);
  return problem;
}

AttentionProblem backward_problem(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                                  const HeadsView& v, const Tensor& out_TC, const Tensor& lse_HT,
                                  const Documents& documents, Tensor& delta_HT, HeadsView& dq,
                                  HeadsView& dk, HeadsView& dv) {
  AttentionProblem problem;
  set_shape(problem, q, k);
  problem.q = RawHeads(q);
  problem.k = RawHeads(k);
  problem.v = RawHeads(v);
  problem.out = RawHeads(out_TC, q.head_dim);
  problem.dout = RawHeads(dout_TC, q.head_dim);
  problem.dq = RawHeads(dq);
  problem.dk = RawHeads(dk);
  problem.dv = RawHeads(dv);
  problem.lse = lse_HT.raw();
  problem.delta = delta_HT.raw();
  add_documents(problem, documents);
  add_backward_items(problem);
  sort_by_cost(problem.items);
  return problem;
}

int64_t most_query_tiles(const AttentionProblem& problem) {
  int64_t most = 1;
  for (const AttentionItem& item : problem.items) {
    if (item.work == AttentionWork::kAll)
      most = std::max(most,
                      problem.query_tiles(problem.sequences[static_cast<size_t>(item.sequence)]));
  }
  return most;
}

}  // namespace ink

#include "parallel/data_parallel/replica_check.h"

#include <algorithm>
#include <bit>

#include "engine/core/hash64.h"
#include "engine/tensor/host_bytes.h"

namespace ink {
namespace {

// "rank 1", "ranks 0, 2 and 3".
std::string list_ranks(const std::vector<size_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace

void ReplicaHashes::add(std::string name, const Tensor& tensor) {
  Hash64 hash;
  visit_host_bytes(tensor, [&](std::span<const std::byte> bytes) { hash.update(bytes); });
  names_.push_back(std::move(name));
  hashes_.push_back(hash.finish());
}

void ReplicaHashes::add(std::string name, std::string_view text) {
  names_.push_back(std::move(name));
  hashes_.push_back(hash64(std::as_bytes(std::span(text))));
}

std::optional<ReplicaDifference> compare_replicas(const ReplicaHashes& mine, ProcessGroup& group) {
  const std::vector<uint64_t> all = gather_words(mine.hashes(), group);
  const size_t items = mine.hashes().size(), ranks = static_cast<size_t>(group.size());
  std::optional<ReplicaDifference> difference;
  for (size_t item = 0; item < items; ++item) {
    std::vector<uint64_t> by_rank;
    for (size_t rank = 0; rank < ranks; ++rank) by_rank.push_back(all[rank * items + item]);
    if (std::ranges::count(by_rank, by_rank[0]) == std::ssize(by_rank)) continue;
    if (!difference) difference = {.name = mine.names()[item], .hashes = by_rank};
    ++difference->count;
  }
  return difference;
}

std::string describe_hashes(const std::vector<uint64_t>& by_rank) {
  std::vector<uint64_t> seen;
  std::string text;
  for (const uint64_t hash : by_rank) {
    if (std::ranges::find(seen, hash) != seen.end()) continue;
    seen.push_back(hash);
    std::vector<size_t> ranks;
    for (size_t rank = 0; rank < by_rank.size(); ++rank)
      if (by_rank[rank] == hash) ranks.push_back(rank);
    text += fmt::format("{}{:016x} on {}", text.empty() ? "" : ", ", hash, list_ranks(ranks));
  }
  return text;
}

std::vector<uint64_t> gather_words(const std::vector<uint64_t>& mine, ProcessGroup& group) {
  if (group.size() == 1) return mine;
  Runtime runtime;
  std::vector<int64_t> words;
  for (const uint64_t word : mine) words.push_back(std::bit_cast<int64_t>(word));
  const Tensor in = to_tensor(runtime, words);
  const Tensor out(runtime, {group.size() * in.numel()}, DType::kI64);
  group.all_gather(in, out)->wait();
  std::vector<uint64_t> all;
  for (const int64_t word : to_vector<int64_t>(out)) all.push_back(std::bit_cast<uint64_t>(word));
  return all;
}

}  // namespace ink

// Do the ranks of a group still hold the same? Hashes of what must be equal, gathered and compared.
//
// Used by the self-check of a run. What a rank holds is hashed on the host; one 64-bit hash per
// item crosses the group. Every rank gets the same answer, so all act alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm/process_group.h"

namespace ink {

// The items of one rank, in an order that is the same on every rank.
class ReplicaHashes {
 public:
  void add(std::string name, const Tensor& tensor);  // contiguous; waits for its device
  void add(std::string name, std::string_view text);

  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] const std::vector<uint64_t>& hashes() const { return hashes_; }

 private:
  std::vector<std::string> names_;
  std::vector<uint64_t> hashes_;
};

struct ReplicaDifference {
  std::string name;              // of the first item that differs
  std::vector<uint64_t> hashes;  // of it, by rank
  size_t count = 0;              // items that differ
};

// Collective; the group carries host tensors. Nothing: all ranks hold the same.
[[nodiscard]] std::optional<ReplicaDifference> compare_replicas(const ReplicaHashes& mine,
                                                                ProcessGroup& group);

// "0123456789abcdef on ranks 0 and 2, fedcba9876543210 on rank 1".
[[nodiscard]] std::string describe_hashes(const std::vector<uint64_t>& by_rank);

// The words of every rank, rank after rank. Collective; all ranks bring equally many.
[[nodiscard]] std::vector<uint64_t> gather_words(const std::vector<uint64_t>& mine,
                                                 ProcessGroup& group);

}  // namespace ink

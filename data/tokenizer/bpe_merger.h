// The merge loop of byte-pair encoding: among all neighbours that a rule joins, the rule of lowest
// rank goes first, leftmost first. O(n log n) by a heap over a linked list. Immutable after
// construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ink {

struct MergeRule {
  int32_t left = -1, right = -1, merged = -1;  // ids; the rank of a rule is its index
};

class BpeMerger {
 public:
  BpeMerger() : BpeMerger(std::span<const MergeRule>{}) {}
  // Of two rules for one pair the later one counts, as in the tokenizers library.
  explicit BpeMerger(std::span<const MergeRule> rules);

  // symbols: one id per starting symbol. Appends what is left after all merges.
  void append(std::span<const int32_t> symbols, std::vector<int32_t>& ids) const;

 private:
  struct Slot {
    uint64_t pair = ~uint64_t{0};
    uint32_t rank = 0;
    int32_t merged = -1;
  };
  [[nodiscard]] const Slot* find(int32_t left, int32_t right) const;
  [[nodiscard]] size_t place_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing, at most half full, power of two
};

}  // namespace ink

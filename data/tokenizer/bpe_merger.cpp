#include "data/tokenizer/bpe_merger.h"

#include <algorithm>
#include <bit>

namespace ink {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

struct Symbol {
  int32_t id;          // -1: merged into its left neighbour
  int32_t prev, next;  // -1: none
};

struct Candidate {
  uint32_t rank;
  int32_t at;  // index of the left symbol
  int32_t merged;
  // A heap keeps its largest element first.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

}  // namespace

BpeMerger::BpeMerger(std::span<const MergeRule> rules)
    : slots_(std::bit_ceil(2 * rules.size() + 1)) {
  for (size_t rank = 0; rank < rules.size(); ++rank) {
    const uint64_t pair = pair_key(rules[rank].left, rules[rank].right);
    slots_[place_of(pair)] = {pair, static_cast<uint32_t>(rank), rules[rank].merged};
  }
}

size_t BpeMerger::place_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t at = (pair * 0x9E3779B97F4A7C15u >> 20) & mask;
  while (slots_[at].pair != pair && slots_[at].merged >= 0) at = (at + 1) & mask;
  return at;
}

const BpeMerger::Slot* BpeMerger::find(int32_t left, int32_t right) const {
  const Slot& slot = slots_[place_of(pair_key(left, right))];
  return slot.merged >= 0 ? &slot : nullptr;
}

void BpeMerger::append(std::span<const int32_t> symbols, std::vector<int32_t>& ids) const {
  const auto n = static_cast<int32_t>(symbols.size());
  std::vector<Symbol> list(symbols.size());
  std::vector<Candidate> heap;
  const auto offer = [&](int32_t at) {
    if (at < 0 || list[at].next < 0) return;
    if (const Slot* rule = find(list[at].id, list[list[at].next].id)) {
      heap.push_back({rule->rank, at, rule->merged});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  for (int32_t i = 0; i < n; ++i) list[i] = {symbols[i], i - 1, i + 1 < n ? i + 1 : -1};
  for (int32_t i = 0; i < n; ++i) offer(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = list[top.at];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = list[left.next];
    const Slot* rule = find(left.id, right.id);  // either side may have changed since the offer
    if (rule == nullptr || rule->rank != top.rank) continue;
    left.id = top.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) list[left.next].prev = top.at;
    offer(left.prev);
    offer(top.at);
  }
  for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = list[i].next) ids.push_back(list[i].id);
}

}  // namespace ink

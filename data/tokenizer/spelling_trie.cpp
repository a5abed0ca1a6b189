#include "data/tokenizer/spelling_trie.h"

namespace ink {

uint32_t SpellingTrie::child(uint32_t node, char byte) const {
  for (const auto& [key, index] : nodes_[node].next) {
    if (key == byte) return index;
  }
  return 0;
}

void SpellingTrie::add(std::string_view spelling, int32_t id) {
  if (spelling.empty()) return;
  starts_[static_cast<uint8_t>(spelling[0])] = true;
  uint32_t node = 0;
  for (const char byte : spelling) {
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[node].next.emplace_back(byte, next);
    }
    node = next;
  }
  nodes_[node].id = id;
}

SpellingMatch SpellingTrie::match_at(std::string_view text) const {
  SpellingMatch longest;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == 0) break;
    if (nodes_[node].id >= 0) longest = {0, i + 1, nodes_[node].id};
  }
  return longest;
}

SpellingMatch SpellingTrie::find(std::string_view text, size_t from) const {
  if (empty()) return {};
  for (size_t i = from; i < text.size(); ++i) {
    if (!starts_[static_cast<uint8_t>(text[i])]) continue;
    SpellingMatch match = match_at(text.substr(i));
    if (match) {
      match.begin = i;
      return match;
    }
  }
  return {};
}

}  // namespace ink

// A set of spellings (special, blocked or added tokens) that is searched in text: leftmost match
// first, the longest one where several begin. Built once, then read from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ink {

struct SpellingMatch {
  size_t begin = 0;
  size_t length = 0;  // 0: none
  int32_t id = -1;
  explicit operator bool() const { return length > 0; }
};

class SpellingTrie {
 public:
  // A spelling added twice keeps its last id. Empty spellings are ignored.
  void add(std::string_view spelling, int32_t id);

  [[nodiscard]] bool empty() const { return nodes_.size() == 1; }
  // The longest spelling that text starts with.
  [[nodiscard]] SpellingMatch match_at(std::string_view text) const;
  // The first spelling in text at or after `from`.
  [[nodiscard]] SpellingMatch find(std::string_view text, size_t from = 0) const;

 private:
  struct Node {
    int32_t id = -1;
    std::vector<std::pair<char, uint32_t>> next;  // few per node: a linear scan
  };
  [[nodiscard]] uint32_t child(uint32_t node, char byte) const;  // 0: none

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> starts_{};  // bytes that begin a spelling
};

}  // namespace ink

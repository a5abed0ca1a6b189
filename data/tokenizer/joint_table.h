// Which two characters may stand next to each other inside a piece of a vocabulary. Merges only
// ever build pieces, so no merge crosses a border whose two characters are joined in no piece: text
// may be cut there and its parts encoded alone, with equal ids. That turns one merge problem of a
// document's size into many small ones that a WordCache answers.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/core/utf8.h"

namespace ink {

class JointTable {
 public:
  // Marks every pair of neighbours of the piece (valid UTF-8).
  void add_piece(std::string_view piece);

  // May give true for a pair that no piece joins (a hash collision), never false for one that is
  // joined.
  [[nodiscard]] bool joined(uint32_t left, uint32_t right) const {
    const size_t bit = index(left, right);
    return bits_[bit / 64] >> (bit % 64) & 1;
  }

  // Cuts valid UTF-8 text at every border that is safe and calls word(std::string_view) for each
  // part.
  template <class Word>
  void for_each_word(std::string_view text, Word&& word) const;

  // U+2581 and the space are one character to SentencePiece.
  static uint32_t folded(uint32_t c) { return c == 0x2581 ? uint32_t{' '} : c; }

 private:
  static constexpr size_t kAscii = 128;
  static constexpr size_t kHashedBits = size_t{1} << 20;
  static size_t index(uint32_t left, uint32_t right) {
    if (left < kAscii && right < kAscii) return left * kAscii + right;
    const uint64_t mixed = (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u;
    return kAscii * kAscii + (mixed >> 44);
  }
  std::vector<uint64_t> bits_ = std::vector<uint64_t>((kAscii * kAscii + kHashedBits) / 64);
};

template <class Word>
void JointTable::for_each_word(std::string_view text, Word&& word) const {
  size_t begin = 0;
  uint32_t left = 0;
  for (size_t i = 0; i < text.size();) {
    CodePoint c{static_cast<uint8_t>(text[i]), 1};
    if (c.value >= kAscii) c = first_code_point(text.substr(i));
    const uint32_t right = folded(c.value);
    if (i > begin && !joined(left, right)) {
      word(text.substr(begin, i - begin));
      begin = i;
    }
    left = right;
    i += c.bytes;
  }
  if (begin < text.size()) word(text.substr(begin));
}

}  // namespace ink

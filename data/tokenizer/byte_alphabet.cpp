#include "data/tokenizer/byte_alphabet.h"

#include <array>

#include "engine/core/utf8.h"

namespace ink {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kLetters = 256 + 68;

struct Alphabet {
  std::array<uint16_t, 256> letter{};
  std::array<int16_t, kLetters> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const uint16_t letter = stands_for_itself(byte) ? static_cast<uint16_t>(byte) : next++;
    alphabet.letter[byte] = letter;
    alphabet.byte[letter] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

uint32_t byte_letter(uint8_t byte) { return kAlphabet.letter[byte]; }

std::optional<std::string> bytes_of_letters(std::string_view piece) {
  std::string bytes;
  while (!piece.empty()) {
    const CodePoint c = first_code_point(piece);
    if (c.bytes == 0 || c.value >= kLetters || kAlphabet.byte[c.value] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[c.value]);
    piece.remove_prefix(c.bytes);
  }
  return bytes;
}

}  // namespace ink

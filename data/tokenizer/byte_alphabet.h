// GPT-2's printable stand-ins for bytes: the bytes 21-7E, A1-AC and AE-FF hex stand for themselves,
// the other 68 are U+0100 onwards in ascending order. Byte-level vocabularies are written in this
// alphabet.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ink {

// The code point that stands for a byte.
[[nodiscard]] uint32_t byte_letter(uint8_t byte);
// The bytes a piece stands for; none if it holds a character outside of the alphabet.
[[nodiscard]] std::optional<std::string> bytes_of_letters(std::string_view piece);

}  // namespace ink

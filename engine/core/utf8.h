// UTF-8 as readers of run files, text and tokenizers need it: find the first bad byte, walk code
// points of valid text, repair what a model sampled. Strict per RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF. Free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ink {

struct CodePoint {
  uint32_t value = 0;
  uint32_t bytes = 0;  // 0: the text does not start with a valid sequence
};

// The code point at the start of text; bytes == 0 if text is empty or starts with an invalid
// sequence.
[[nodiscard]] CodePoint first_code_point(std::string_view text);

// Byte offset of the first invalid sequence, npos if the text is valid.
[[nodiscard]] size_t find_invalid_utf8(std::string_view text);

// value is a code point that UTF-8 can hold.
void append_utf8(uint32_t value, std::string& out);

// Every byte that belongs to no valid sequence becomes U+FFFD, as SentencePiece and byte fallback
// do.
[[nodiscard]] std::string repair_utf8(std::string_view text);

// Length of the longest prefix that does not end inside a sequence which more bytes could complete:
// what a stream may print now.
[[nodiscard]] size_t complete_utf8_prefix(std::string_view text);

}  // namespace ink

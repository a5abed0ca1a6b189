// The byte check that runs before the YAML library sees a configuration.
#pragma once

#include <optional>
#include <string_view>

namespace ink {

struct BadByte {
  unsigned char byte = 0;
  int line = 0, column = 0;  // from 0; columns in characters
};

// The first NUL, or the first byte that starts no well-formed UTF-8 sequence (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF).
std::optional<BadByte> find_bad_byte(std::string_view text);

}  // namespace ink

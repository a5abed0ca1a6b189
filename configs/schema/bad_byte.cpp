#include "configs/schema/bad_byte.h"

#include "engine/core/utf8.h"

namespace ink {

std::optional<BadByte> find_bad_byte(std::string_view text) {
  BadByte here;
  while (!text.empty()) {
    const CodePoint next = first_code_point(text);
    if (next.bytes == 0 || next.value == 0) {
      here.byte = static_cast<unsigned char>(text.front());
      return here;
    }
    if (next.value == '\n') {
      ++here.line;
      here.column = 0;
    } else {
      ++here.column;
    }
    text.remove_prefix(next.bytes);
  }
  return std::nullopt;
}

}  // namespace ink

#include "data/tokenizer/joint_table.h"

namespace ink {

void JointTable::add_piece(std::string_view piece) {
  bool inside = false;
  uint32_t left = 0;
  while (!piece.empty()) {
    const CodePoint c = first_code_point(piece);
    const uint32_t right = folded(c.value);
    if (inside) {
      const size_t bit = index(left, right);
      bits_[bit / 64] |= uint64_t{1} << (bit % 64);
    }
    left = right;
    inside = true;
    piece.remove_prefix(c.bytes > 0 ? c.bytes : 1);
  }
}

}  // namespace ink

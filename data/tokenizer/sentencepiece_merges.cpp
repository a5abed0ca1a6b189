#include "data/tokenizer/sentencepiece_merges.h"

#include <algorithm>
#include <unordered_set>

#include "engine/core/utf8.h"

namespace ink {

std::vector<std::pair<std::string_view, std::string_view>> implied_merges(
    const SentencePieceModel& model) {
  std::vector<const SentencePieceEntry*> normal;
  std::unordered_set<std::string_view> names;
  for (const SentencePieceEntry& piece : model.pieces) {
    if (piece.type != PieceType::kNormal) continue;
    normal.push_back(&piece);
    names.insert(piece.text);
  }
  // Equal scores keep the order of their ids.
  std::stable_sort(normal.begin(), normal.end(),
                   [](const auto* a, const auto* b) { return a->score > b->score; });
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  for (const SentencePieceEntry* piece : normal) {
    const std::string_view text = piece->text;
    for (size_t cut = first_code_point(text).bytes; cut < text.size();
         cut += first_code_point(text.substr(cut)).bytes) {
      const std::string_view left = text.substr(0, cut), right = text.substr(cut);
      if (names.contains(left) && names.contains(right)) merges.emplace_back(left, right);
    }
  }
  return merges;
}

}  // namespace ink

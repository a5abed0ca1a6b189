#include "data/tokenizer/tokenizer.h"

#include "engine/core/utf8.h"

namespace ink {

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const {
  std::vector<int32_t> ids;
  append_plain(text, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  append_safe(text, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_template(std::span<const TextSegment> segments) const {
  std::vector<int32_t> ids;
  std::string run;
  const auto flush = [&] {
    append_safe(run, ids);
    run.clear();
  };
  for (const TextSegment& segment : segments) {
    std::string_view rest = segment.text;
    while (segment.origin == TextOrigin::kTemplate) {
      const SpellingMatch match = special_spellings_.find(rest);
      if (!match) break;
      run += rest.substr(0, match.begin);
      flush();
      ids.push_back(match.id);
      rest.remove_prefix(match.begin + match.length);
    }
    run += rest;
  }
  flush();
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, Specials specials) const {
  std::string bytes;
  bool first = true;
  for (const int32_t id : ids) {
    const bool special = is_special(id);
    if (special && specials == Specials::kSkip) continue;
    std::string_view piece = piece_bytes(id);
    if (first && !special && strips_first_space() && piece.starts_with(' ')) piece.remove_prefix(1);
    first = first && special;
    bytes += piece;
  }
  return repair_utf8(bytes);
}

std::optional<int32_t> Tokenizer::special_id(std::string_view spelling) const {
  const SpellingMatch match = special_spellings_.match_at(spelling);
  if (match && match.length == spelling.size()) return match.id;
  return std::nullopt;
}

}  // namespace ink

// Shows packs to people: decoded text with document borders and masked spans, an id/label table,
// HTML; and the numbers of a data set. Called by `data inspect`, `data stats` and by `train` before
// step 1.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/loader/pack_source.h"

namespace ink {

// How ids become text. Both may be empty: then ids are shown.
struct PieceText {
  // The text of a run of ids, byte pieces joined.
  std::function<std::string(const std::vector<int32_t>&)> decode;
  // The name of one id as the vocabulary spells it.
  std::function<std::string(int32_t)> piece;
  std::function<bool(int32_t)> is_special;
};

enum class InspectColor { kMarks, kAnsi };
// kCounted: only what is trained on is spelled out, of an untrained span the number of tokens.
enum class UntrainedSpans { kShown, kCounted };

// Untrained spans stand between ⟦ and ⟧ (or in grey), specials as <name:id>, a line names every
// document.
[[nodiscard]] std::string show_pack(const Pack& pack, const PieceText& text, InspectColor color,
                                    UntrainedSpans untrained = UntrainedSpans::kShown);
// One line per token: place, document, position, id, piece, label.
[[nodiscard]] std::string show_columns(const Pack& pack, const PieceText& text);
// A page without outside references.
[[nodiscard]] std::string show_html(const std::vector<Pack>& packs, const PieceText& text,
                                    const std::string& title);

struct SourceStats {
  std::string name;
  bool packed = true;  // packs; without packing what is counted are samples
  int64_t documents = 0, tokens = 0, packs = 0, trained = 0;
  double fill_rate = 0;  // tokens / (packs * max_length)
  int64_t shortest = 0, longest = 0;
  double mean = 0;
  std::vector<int64_t> histogram;  // documents with a length in [2^i, 2^(i+1))
};

// samples_of: 0 for the store's packs, else samples of at most so many tokens (data.packing:
// false).
[[nodiscard]] SourceStats source_stats(const std::shared_ptr<const TokenStore>& store, Split split,
                                       int64_t samples_of = 0);
[[nodiscard]] nlohmann::json to_json(const SourceStats& stats);
[[nodiscard]] std::string to_table(const std::vector<SourceStats>& stats, bool histogram);

}  // namespace ink

// Shows packs to people: decoded text with document borders and masked spans, an id/label table,
// HTML; and the numbers of a data set. Called by `data inspect`, `data stats` and by `train` before
// step 1.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/pack_source.h"
#include "data/tokenizer/tokenizer.h"

namespace ink {

// How ids become text. Both may be empty: then ids are shown.
struct PieceText {
  // The text of a run of ids, byte pieces joined.
  std::function<std::string(const std::vector<int32_t>&)> decode;
  // The name of one id as the vocabulary spells it.
  std::function<std::string(int32_t)> piece;
  std::function<bool(int32_t)> is_special;
};

// Of a tokenizer; without one both are empty.
[[nodiscard]] PieceText piece_text(const std::shared_ptr<const Tokenizer>& tokenizer);

enum class InspectColor { kMarks, kAnsi };
// kCounted: only what is trained on is spelled out, of an untrained span the number of tokens.
enum class UntrainedSpans { kShown, kCounted };

// A pack, a sample or a document alone.
struct InspectedPack {
  std::string heading;              // which it is, and how much
  std::vector<std::string> places;  // file:line of every segment
  Pack pack;
};

// source_names: PackSource's. what: "pack 3 of train".
[[nodiscard]] InspectedPack inspected(const std::string& what, Pack pack,
                                      const std::vector<std::string>& source_names);

// Untrained spans stand between ⟦ and ⟧ (or in grey), specials as <name:id>, a line names every
// document.
[[nodiscard]] std::string show_pack(const InspectedPack& shown, const PieceText& text,
                                    InspectColor color,
                                    UntrainedSpans untrained = UntrainedSpans::kShown);
// One line per token: place, document, position, id, piece, label.
[[nodiscard]] std::string show_columns(const Pack& pack, const PieceText& text);
// A page without outside references.
[[nodiscard]] std::string show_html(const std::vector<InspectedPack>& all, const PieceText& text,
                                    const std::string& title);

// What the packs of a source are.
enum class PackUnit { kPacks, kSamples };

struct SourceStats {
  std::string name;
  PackUnit unit = PackUnit::kPacks;
  int64_t documents = 0, tokens = 0, packs = 0, trained = 0;
  double fill_rate = 0;  // tokens / (packs * max_length)
  int64_t shortest = 0, longest = 0;
  double mean = 0;
  std::vector<int64_t> histogram;     // documents with a length in [2^i, 2^(i+1))
  std::optional<StoreDrops> dropped;  // nothing where that is not known
};

[[nodiscard]] SourceStats source_stats(const PackSource& source, std::string name, PackUnit unit);
[[nodiscard]] nlohmann::json to_json(const SourceStats& stats);
[[nodiscard]] std::string to_table(const std::vector<SourceStats>& stats, bool histogram);

}  // namespace ink

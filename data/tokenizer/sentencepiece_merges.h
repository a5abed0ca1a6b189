// Merge rules that a SentencePiece BPE model implies. The library joins any two neighbours whose
// concatenation is a piece, best score first; a list of rules says the same by naming every way to
// cut a piece into two pieces, ordered by the score of the whole.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer/sentencepiece_model.h"

namespace ink {

// Views into the model, best rule first. Only normal pieces take part: the library never merges
// others.
[[nodiscard]] std::vector<std::pair<std::string_view, std::string_view>> implied_merges(
    const SentencePieceModel& model);

}  // namespace ink

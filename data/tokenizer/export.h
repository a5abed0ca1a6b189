// Writes the tokenizer of a Hugging Face directory. Called by `export hf` and by checkpoints.
//
// A source directory that has a tokenizer.json is copied file by file. For a SentencePiece model a
// tokenizer.json is made: BPE with byte fallback and without a prefix space, merges in the order of
// the scores, reserved pieces out of reach or under their chat spellings. Its ids equal
// Tokenizer::encode, but for U+2581 in the text, which its normaliser cannot tell from a space.
#pragma once

#include <filesystem>
#include <string>

#include "data/tokenizer/sentencepiece_tokenizer.h"

namespace ink {

// source: what load_tokenizer takes. directory exists; files of the same names are replaced. Code 2
// for a SentencePiece model that a tokenizer.json cannot express (not BPE, or text is changed
// before merging).
void export_tokenizer(const std::string& source, const std::filesystem::path& directory);

// The text of tokenizer.json for a SentencePiece model; place: for messages.
[[nodiscard]] std::string make_tokenizer_json(const SentencePieceTokenizer& tokenizer,
                                              const std::string& place);

}  // namespace ink

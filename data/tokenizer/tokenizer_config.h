// What we use of a Hugging Face directory's tokenizer_config.json (and, for names it lacks,
// special_tokens_map.json). Other fields choose Python classes and change no id.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "engine/io/safe_path.h"

namespace ink {

struct TokenizerConfig {
  std::string bos, eos, pad;  // empty: not named
  std::optional<bool> add_bos;
  std::map<std::string, int32_t> added_tokens;  // spelling -> id
  std::string chat_template;                    // empty: none in this file
};

// Everything empty where the files are absent. Code 3 if one is malformed.
[[nodiscard]] TokenizerConfig read_tokenizer_config(const SafeDirectory& directory);

// For a SentencePiece model: the public classes add BOS unless told otherwise.
[[nodiscard]] SentencePieceOptions sentencepiece_options(const TokenizerConfig& config);

}  // namespace ink

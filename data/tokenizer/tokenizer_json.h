// The contents of a Hugging Face tokenizer.json with a BPE model, checked and without JSON: what
// BpeTokenizer is built from. Whatever changes ids and is not implemented is code 3 and named.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe_merger.h"
#include "data/tokenizer/regex_splitter.h"
#include "data/tokenizer/text_normalizer.h"

namespace ink {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;
  bool normalized = false;  // searched after normalisation
};

struct TokenizerSpec {
  std::vector<std::string> pieces;  // index = id; empty where the vocabulary has a hole
  int64_t model_pieces = 0;         // ids below it can be the model's; the rest are added tokens
  std::vector<MergeRule> merges;
  bool ignore_merges = false;  // a whole word of the vocabulary is taken as it is
  bool byte_level = false;     // pieces are written in the byte alphabet; else byte fallback
  std::string unk;             // empty: none
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::vector<SplitPattern> splits;           // applied one after the other
  std::vector<NormalizerStep> decoder_steps;  // kReplace only, per piece
  bool decoder_strips_first_space = false;
  std::string bos;  // what the post-processor puts in front; empty: nothing
};

// place: the file's name, for messages.
[[nodiscard]] TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& place);

}  // namespace ink

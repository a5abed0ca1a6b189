// Opens the tokenizer that a path means: a `.model` file, a tokenizer.json, or a Hugging Face
// directory.
//
// A directory's tokenizer.model is preferred over its tokenizer.json: it is what the InternLM
// families publish. tokenizer_config.json adds the names of bos, eos and pad, add_bos_token and
// added tokens; no code of a directory is run, and nothing outside of it is opened.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/tokenizer/tokenizer.h"

namespace ink {

// Code 3 if there is no tokenizer at path, or one that is malformed or not supported.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

// Code 3 unless every id of the tokenizer has a row in a model's table; place: the model's, for
// messages.
void check_vocabulary(const Tokenizer& tokenizer, int64_t model_vocab_size,
                      const std::string& place);

}  // namespace ink

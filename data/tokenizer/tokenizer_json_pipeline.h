// The parts of tokenizer.json around the model: normalizer, pre_tokenizer, post_processor, decoder.
#pragma once

#include "data/tokenizer/tokenizer_json.h"
#include "engine/io/json.h"

namespace ink {

// Fills normalizer, splits, byte_level, decoder fields and bos of the spec; code 3 names what is
// unsupported.
void read_pipeline(const JsonReader& root, TokenizerSpec& spec);

}  // namespace ink

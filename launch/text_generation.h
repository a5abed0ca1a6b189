// Generation from text to text: tokenizer, prompt ids, model, decoded answer. Shared by `generate`
// and by samples.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "models/generate/generator.h"

namespace ink {

struct TextResult {
  std::vector<int32_t> prompt_ids;
  Generated generated;
  std::string text;  // of the new tokens, special ids left out
};

[[nodiscard]] std::string name_of(StopReason reason);  // "eos", "length", "stop"

// BOS only as the tokenizer says. stop: texts that end the generation and are cut off. on_text:
// called with whole characters as they come.
struct TextOptions {
  std::vector<std::string> stop = {};
  std::function<void(std::string_view)> on_text = {};
};
[[nodiscard]] TextResult continue_text(Runtime& runtime, const Decoder& model,
                                       const Tokenizer& tokenizer, std::string_view prompt,
                                       const SamplingOptions& sampling,
                                       const TextOptions& options = {});
// The same from ids, taken as they are. Without a tokenizer the text stays empty.
[[nodiscard]] TextResult continue_ids(Runtime& runtime, const Decoder& model,
                                      const Tokenizer* tokenizer, std::vector<int32_t> prompt_ids,
                                      const SamplingOptions& sampling,
                                      const TextOptions& options = {});

}  // namespace ink

#include "launch/text_generation.h"

#include <algorithm>
#include <optional>

#include "engine/core/utf8.h"

namespace ink {
namespace {

// Collects the text of the tokens, hands whole characters on, and watches for stop texts.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const TextOptions& options)
      : tokenizer_(tokenizer), options_(options) {}

  // False when a stop text is complete.
  bool add(int32_t id) {
    if (!tokenizer_.is_special(id)) text_ += tokenizer_.piece_bytes(id);
    for (const std::string& stop : options_.stop) {
      const size_t at = text_.find(stop);
      if (at == std::string::npos) continue;
      text_.resize(at);
      flush(text_.size());
      return false;
    }
    flush(std::min(complete_utf8_prefix(text_), text_.size() - possible_stop()));
    return true;
  }
  // Bytes that form no character become U+FFFD, here and in what was handed on.
  std::string finish() {
    flush(text_.size());
    return repair_utf8(text_);
  }

 private:
  // Longest end of the text that may be the beginning of a stop text.
  size_t possible_stop() const {
    size_t longest = 0;
    for (const std::string& stop : options_.stop) {
      for (size_t n = std::min(stop.size(), text_.size()); n > longest; --n) {
        if (text_.compare(text_.size() - n, n, stop, 0, n) == 0) longest = n;
      }
    }
    return longest;
  }
  void flush(size_t until) {
    if (until <= shown_) return;
    if (options_.on_text)
      options_.on_text(repair_utf8(std::string_view(text_).substr(shown_, until - shown_)));
    shown_ = until;
  }
  const Tokenizer& tokenizer_;
  const TextOptions& options_;
  std::string text_;
  size_t shown_ = 0;
};

}  // namespace

std::string name_of(StopReason reason) {
  switch (reason) {
    case StopReason::kEos:
      return "eos";
    case StopReason::kLength:
      return "length";
    case StopReason::kCallback:
      return "stop";
  }
  return "";
}

TextResult continue_ids(Runtime& runtime, const Decoder& model, const Tokenizer* tokenizer,
                        std::vector<int32_t> prompt_ids, const SamplingOptions& sampling,
                        const TextOptions& options) {
  TextResult result{.prompt_ids = std::move(prompt_ids), .generated = {}, .text = {}};
  std::optional<TextStream> stream;
  if (tokenizer != nullptr) stream.emplace(*tokenizer, options);
  result.generated =
      generate(runtime, model, result.prompt_ids, sampling,
               [&](const SampledToken& token) { return !stream || stream->add(token.id); });
  if (stream) result.text = stream->finish();
  return result;
}

TextResult continue_text(Runtime& runtime, const Decoder& model, const Tokenizer& tokenizer,
                         std::string_view prompt, const SamplingOptions& sampling,
                         const TextOptions& options) {
  std::vector<int32_t> ids;
  if (tokenizer.adds_bos() && tokenizer.special_ids().bos)
    ids.push_back(*tokenizer.special_ids().bos);
  tokenizer.append_safe(prompt, ids);
  if (ids.empty() && tokenizer.special_ids().bos) ids.push_back(*tokenizer.special_ids().bos);
  return continue_ids(runtime, model, &tokenizer, std::move(ids), sampling, options);
}

}  // namespace ink

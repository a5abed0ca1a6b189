// The normalisers of tokenizer.json that we read: NFC, replacement of a literal, a prefix.
// Immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ink {

enum class NormalizerKind { kNfc, kReplace, kPrepend };

struct NormalizerStep {
  NormalizerKind kind = NormalizerKind::kNfc;
  std::string from,
      to;  // kReplace: every `from` becomes `to`; kPrepend: `to` in front of non-empty text
};

class TextNormalizer {
 public:
  explicit TextNormalizer(std::vector<NormalizerStep> steps = {}) : steps_(std::move(steps)) {}

  [[nodiscard]] bool changes_nothing() const { return steps_.empty(); }
  // text: valid UTF-8, and so is the result.
  [[nodiscard]] std::string apply(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

// Every occurrence of `from`, left to right; `from` is not empty.
[[nodiscard]] std::string replace_all(std::string_view text, std::string_view from,
                                      std::string_view to);

}  // namespace ink

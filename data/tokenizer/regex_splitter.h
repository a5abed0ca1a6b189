// Cuts text into words by a regular expression, as the pre-tokenizer "Split" with behaviour
// "Isolated" does: every match is a word, and so is what lies between two matches. PCRE2 with
// Unicode classes, JIT and its match limits; immutable after construction, any thread may split.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace ink {

enum class PatternKind { kRegex, kLiteral };

enum class SplitBehavior {
  kIsolated,            // every match is a word, and so is what lies between two matches
  kMergedWithPrevious,  // a match ends the word that comes before it
};

struct SplitPattern {
  std::string pattern;
  PatternKind kind = PatternKind::kRegex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
};

class RegexSplitter {
 public:
  // place: the file, for messages. Code 3 with the position if the pattern does not compile.
  RegexSplitter(const SplitPattern& split, const std::string& place);
  RegexSplitter(RegexSplitter&&) noexcept;
  ~RegexSplitter();

  // text: valid UTF-8. Code 3 if the pattern runs into a match limit.
  void split(std::string_view text, const std::function<void(std::string_view)>& word) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace ink

#include "data/tokenizer/regex_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "engine/core/error.h"

namespace ink {
namespace {

std::string pcre_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct RegexSplitter::Compiled {
  pcre2_code* code = nullptr;
  std::string place;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  ~Compiled() { pcre2_code_free(code); }
};

RegexSplitter::RegexSplitter(const SplitPattern& split, const std::string& place)
    : compiled_(std::make_unique<Compiled>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // \s, \p{L} and (?i) are Unicode in the tokenizers that wrote these patterns.
  const uint32_t options =
      PCRE2_UTF | (split.kind == PatternKind::kLiteral ? PCRE2_LITERAL : PCRE2_UCP);
  compiled_->place = place;
  compiled_->behavior = split.behavior;
  compiled_->code =
      pcre2_compile(units(split.pattern), split.pattern.size(), options, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    throw Error(ExitCode::kBadInput, place,
                fmt::format("expected a pre-tokenizer pattern, {} at character {} of {}",
                            pcre_message(error), offset, split.pattern));
  }
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter matches
}

RegexSplitter::RegexSplitter(RegexSplitter&&) noexcept = default;
RegexSplitter::~RegexSplitter() = default;

void RegexSplitter::split(std::string_view text,
                          const std::function<void(std::string_view)>& word) const {
  const MatchData match(pcre2_match_data_create_from_pattern(compiled_->code, nullptr));
  CHECK(match != nullptr, "no memory for a match of {} bytes", text.size());
  size_t begin = 0;  // of what is not handed out yet
  size_t at = 0;
  while (at < text.size()) {
    int found = pcre2_match(compiled_->code, units(text), text.size(), at, PCRE2_NO_UTF_CHECK,
                            match.get(), nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its frames on the heap
      found = pcre2_match(compiled_->code, units(text), text.size(), at,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.get(), nullptr);
    }
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw Error(
          ExitCode::kBadInput, compiled_->place,
          fmt::format("expected a pre-tokenizer pattern that matches within limits, {} at byte {} "
                      "of a text of {}",
                      pcre_message(found), at, text.size()));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
    if (bounds[1] <= bounds[0]) {  // an empty match separates nothing
      do ++at;
      while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
      continue;
    }
    at = bounds[1];
    if (compiled_->behavior == SplitBehavior::kIsolated && bounds[0] > begin) {
      word(text.substr(begin, bounds[0] - begin));
      begin = bounds[0];
    }
    word(text.substr(begin, at - begin));
    begin = at;
  }
  if (begin < text.size()) word(text.substr(begin));
}

}  // namespace ink

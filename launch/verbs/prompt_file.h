// The prompts of `generate`: from flags and from files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ink {

struct Prompt {
  std::string text = {};
  std::optional<std::vector<int32_t>> ids = {};  // instead of text
};

// "1 2 3" or "1,2,3"; Error(kConfig) names the flag.
[[nodiscard]] std::vector<int32_t> parse_ids(const std::string& text, const std::string& flag);
// A .jsonl file has one object per line with `prompt` or `text`; any other file one prompt per
// line. Blank lines are left out. Error(kBadInput) with file and line.
[[nodiscard]] std::vector<Prompt> read_prompts(const std::string& path);

}  // namespace ink

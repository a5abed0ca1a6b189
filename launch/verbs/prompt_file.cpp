#include "launch/verbs/prompt_file.h"

#include <charconv>
#include <filesystem>

#include "engine/core/utf8.h"
#include "engine/io/file.h"
#include "engine/io/json.h"

namespace ink {
namespace {

constexpr uint64_t kLongestFile = uint64_t{1} << 30;

Prompt parse_row(std::string_view line, const std::string& place) {
  const nlohmann::json row = parse_json(line, place);
  const JsonReader reader(row, place);
  return {.text = reader.string(reader.has("prompt") ? "prompt" : "text")};
}

}  // namespace

std::vector<int32_t> parse_ids(const std::string& text, const std::string& flag) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    while (at < end && (*at == ' ' || *at == ',')) ++at;
    if (at == end) break;
    int32_t id = 0;
    const auto [next, failed] = std::from_chars(at, end, id);
    if (failed != std::errc() || id < 0 || (next < end && *next != ' ' && *next != ',')) {
      throw Error(ExitCode::kConfig, flag,
                  fmt::format("expected token ids such as \"1 2 3\", got {}", quote_name(text)));
    }
    ids.push_back(id);
    at = next;
  }
  if (ids.empty()) throw Error(ExitCode::kConfig, flag, "expected token ids, got none");
  return ids;
}

std::vector<Prompt> read_prompts(const std::string& path) {
  const std::string text = read_text(path, kLongestFile);
  const bool rows = std::filesystem::path(path).extension() == ".jsonl";
  std::vector<Prompt> prompts;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", path, number);
    if (find_invalid_utf8(line) != std::string_view::npos)
      throw Error(ExitCode::kBadInput, place, "expected UTF-8, got other bytes");
    prompts.push_back(rows ? parse_row(line, place) : Prompt{.text = std::string(line)});
  }
  if (prompts.empty()) throw Error(ExitCode::kBadInput, path, "expected prompts, got none");
  return prompts;
}

}  // namespace ink

#include "data/text/row_parser.h"

#include <algorithm>
#include <array>

#include "engine/core/nearest.h"
#include "engine/core/utf8.h"
#include "engine/io/json.h"

namespace ink {
namespace {

using nlohmann::json;

constexpr JsonLimits kRowLimits{.max_bytes = uint64_t{256} << 20, .max_depth = 32};
constexpr std::array<std::string_view, 5> kKeys{"text", "content", "tokens", "input_ids", "labels"};
constexpr int64_t kIgnored = -100;

[[noreturn]] void refuse_keys(const json& row, const std::string& place) {
  std::string found, nearest;
  size_t best = 4;  // farther names are no misspelling
  for (const auto& [key, value] : row.items()) {
    if (found.size() < 200) found += (found.empty() ? "" : ", ") + quote_name(key);
    for (const std::string_view known : kKeys) {
      if (key.size() > 64) continue;
      if (const size_t distance = edit_distance(key, known); distance < best) {
        best = distance;
        nearest = fmt::format("; nearest: {} -> {}", quote_name(key), known);
      }
    }
  }
  throw RowError(
      ExitCode::kBadInput, place,
      fmt::format(
          "expected a pretraining row with text, content, tokens or input_ids, got keys {}{}",
          found.empty() ? "none" : found, nearest),
      "rename the key, or drop such rows with data.on_bad_row: skip");
}

[[noreturn]] void refuse(const std::string& place, const std::string& expected, const json& value) {
  throw RowError(ExitCode::kBadInput, place,
                 "expected " + expected + ", got " + describe_json(value));
}

std::vector<int64_t> integers(const json& row, const char* key, int64_t min,
                              const std::string& place) {
  const json& list = row.at(key);
  if (!list.is_array()) refuse(place, fmt::format("{} as a list of ids", key), list);
  std::vector<int64_t> values;
  values.reserve(list.size());
  for (const json& value : list) {
    if (!value.is_number_integer() || value < min || value > INT32_MAX) {
      refuse(place, fmt::format("integers in [{}, {}] in {}", min, INT32_MAX, key), value);
    }
    values.push_back(value.get<int64_t>());
  }
  return values;
}

void read_signed_tokens(const json& row, const std::string& place, Document& document) {
  for (const int64_t w : integers(row, "tokens", -INT32_MAX, place)) {
    document.ids.push_back(static_cast<int32_t>(w < 0 ? -w : w));
    document.trained.push_back(w > 0);
  }
}

void read_input_ids(const json& row, const std::string& place, Document& document) {
  for (const int64_t id : integers(row, "input_ids", 0, place))
    document.ids.push_back(static_cast<int32_t>(id));
  document.trained.assign(document.ids.size(), 1);
  if (!row.contains("labels") || row["labels"].is_null()) return;
  const auto labels = integers(row, "labels", kIgnored, place);
  if (labels.size() != document.ids.size()) {
    refuse(place, fmt::format("as many labels as the {} input_ids", document.ids.size()),
           labels.size());
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] != kIgnored && labels[i] != document.ids[i]) {
      refuse(place,
             fmt::format("label {} to be {} or the input id {}", i, kIgnored, document.ids[i]),
             labels[i]);
    }
    document.trained[i] = labels[i] != kIgnored;
  }
}

}  // namespace

void check_utf8(const std::string& text, const std::string& place) {
  const size_t bad = find_invalid_utf8(text);
  if (bad == std::string::npos) return;
  throw RowError(ExitCode::kBadInput, place,
                 fmt::format("expected UTF-8, got byte 0x{:02X} at offset {}",
                             static_cast<uint8_t>(text[bad]), bad));
}

void parse_row(std::string_view row, const std::string& place, Document& document) {
  document.is_tokens = false;
  document.text.clear();
  document.ids.clear();
  document.trained.clear();
  json value;
  try {
    value = parse_json(row, place, kRowLimits);
  } catch (const Error& error) {
    throw RowError(ExitCode::kBadInput, error.place(), error.what(), error.hint());
  }
  if (!value.is_object()) refuse(place, "a JSON object per row", value);
  document.is_tokens = value.contains("tokens") || value.contains("input_ids");
  if (value.contains("tokens")) return read_signed_tokens(value, place, document);
  if (value.contains("input_ids")) return read_input_ids(value, place, document);
  for (const char* key : {"text", "content"}) {
    if (!value.contains(key)) continue;
    if (!value[key].is_string()) refuse(place, fmt::format("{} as a string", key), value[key]);
    document.text = value[key].get<std::string>();
    return check_utf8(document.text, place);
  }
  refuse_keys(value, place);
}

}  // namespace ink

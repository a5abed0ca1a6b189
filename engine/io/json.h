// JSON from strangers: parsed with limits, read with exact types.
//
// parse_json refuses what nlohmann::json takes in silence: equal keys in one object, nesting and
// sizes without end, numbers that are no double. JsonReader then hands out members only in the type
// that stands in the file (`1e3` and `1.0` are no integers, `-1` is not unsigned). Every failure is
// Error 3 with `file: key: expected ..., got ...`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/file.h"

namespace ink {

struct JsonLimits {
  uint64_t max_bytes = uint64_t{64} << 20;
  int max_depth = 64;
};

[[nodiscard]] nlohmann::json parse_json(std::string_view text, const std::string& place,
                                        JsonLimits limits = {});
[[nodiscard]] nlohmann::json read_json(const File& file, JsonLimits limits = {});
[[nodiscard]] nlohmann::json read_json(const std::filesystem::path& path, JsonLimits limits = {});

// A name out of a foreign file for one line of output: in double quotes, control characters
// escaped, invalid UTF-8 replaced, cut after 200 bytes.
[[nodiscard]] std::string quote_name(std::string_view text);
// What a value is, for `got ...`: `string "abc"`, `number 1.5`, `null`.
[[nodiscard]] std::string describe_json(const nlohmann::json& value);

// A view of one JSON object; the document must outlive it. A key that is absent, and one that is
// null, count as absent.
class JsonReader {
 public:
  // `path` is where the object stands inside the file: empty, or `rope_scaling`.
  JsonReader(const nlohmann::json& object, std::string place, std::string path = {});

  [[nodiscard]] bool has(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> keys() const;                 // sorted; null members too
  [[nodiscard]] const nlohmann::json& at(std::string_view key) const;  // Error 3 when absent

  [[nodiscard]] int64_t integer(std::string_view key,
                                int64_t min = std::numeric_limits<int64_t>::min(),
                                int64_t max = std::numeric_limits<int64_t>::max()) const;
  [[nodiscard]] double number(std::string_view key) const;  // finite; integers too
  [[nodiscard]] bool boolean(std::string_view key) const;
  [[nodiscard]] std::string string(std::string_view key) const;
  [[nodiscard]] JsonReader object(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> strings(std::string_view key) const;
  // A number or a list of numbers.
  [[nodiscard]] std::vector<int64_t> integers(std::string_view key, int64_t min, int64_t max) const;
  [[nodiscard]] bool boolean_or(std::string_view key, bool absent) const;

  // `expected <expected>, got <the value>`, placed at the key.
  [[nodiscard]] Error error(std::string_view key, std::string_view expected) const;
  [[nodiscard]] const std::string& place() const { return place_; }

 private:
  [[nodiscard]] const nlohmann::json* find(std::string_view key) const;
  [[nodiscard]] std::string path_of(std::string_view key) const;
  [[nodiscard]] int64_t exact_integer(const nlohmann::json& value, std::string_view key,
                                      int64_t min, int64_t max) const;

  const nlohmann::json* object_;
  std::string place_, path_;
};

}  // namespace ink

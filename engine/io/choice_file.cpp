#include "engine/io/choice_file.h"

#include "engine/core/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

constexpr const char* kFormat = "inkstone choices 1";
constexpr size_t kHashDigits = 12;
constexpr JsonLimits kLimits{.max_bytes = uint64_t{16} << 20, .max_depth = 4};

}  // namespace

nlohmann::json choices_to_json(const std::string& machine, const Choices& choices) {
  return {{"format", kFormat}, {"machine", machine}, {"choices", choices}};
}

std::optional<Choices> choices_from_json(const nlohmann::json& json, const std::string& machine,
                                         const std::string& place) {
  const JsonReader reader(json, place);
  if (reader.string("format") != kFormat) throw reader.error("format", quote_name(kFormat));
  if (reader.string("machine") != machine) return std::nullopt;
  const JsonReader table = reader.object("choices");
  Choices choices;
  for (const std::string& key : table.keys()) choices[key] = table.string(key);
  return choices;
}

ChoiceFile::ChoiceFile(const std::filesystem::path& directory, const std::string& kind,
                       std::string machine)
    : machine_(std::move(machine)) {
  if (directory.empty()) return;
  path_ =
      directory / fmt::format("{}-{}.json", kind,
                              sha256_of(std::as_bytes(std::span(machine_))).substr(0, kHashDigits));
}

Choices ChoiceFile::load(std::string& notice) const {
  std::error_code none;
  if (path_.empty() || !std::filesystem::exists(path_, none)) return {};
  try {
    return choices_from_json(read_json(path_, kLimits), machine_, path_.string())
        .value_or(Choices{});
  } catch (const Error& error) {
    notice = fmt::format("{}: measured choices passed over: {}", error.place(), error.what());
    return {};
  }
}

void ChoiceFile::add(const Choices& choices) const {
  if (path_.empty() || choices.empty()) return;
  std::string damaged;  // whoever loads it says so; it is replaced here
  Choices all = load(damaged);
  for (const auto& [key, value] : choices) all[key] = value;
  std::error_code failed;
  std::filesystem::create_directories(path_.parent_path(), failed);
  write_file_atomically(path_, choices_to_json(machine_, all).dump(1));
}

}  // namespace ink

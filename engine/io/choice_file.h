// A table of choices that took a measurement, kept between runs: text keys and values that hold for
// one machine.
//
//   {"format": "inkstone choices 1", "machine": "...", "choices": {"key": "value", ...}}
//
// As a file it is a cache: several ranks may write it, the last one wins and keeps what it found
// there, and a file that cannot be read is passed over with one notice. As JSON it goes into a
// checkpoint.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace ink {

using Choices = std::map<std::string, std::string>;

[[nodiscard]] nlohmann::json choices_to_json(const std::string& machine, const Choices& choices);
// Nothing when they were made on another machine; Error 3 names what is damaged.
[[nodiscard]] std::optional<Choices> choices_from_json(const nlohmann::json& json,
                                                       const std::string& machine,
                                                       const std::string& place);

class ChoiceFile {
 public:
  // <directory>/<kind>-<hash of machine>.json; an empty directory keeps nothing.
  ChoiceFile(const std::filesystem::path& directory, const std::string& kind, std::string machine);

  // What is there; empty when there is nothing. A damaged file: empty, and `notice` says so.
  [[nodiscard]] Choices load(std::string& notice) const;
  // Adds to what is there. Throws Error 4 where it cannot be written.
  void add(const Choices& choices) const;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::string machine_;
  std::filesystem::path path_;
};

}  // namespace ink

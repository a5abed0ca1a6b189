// The Python files that a public InternLM2 directory brings, copied as text and never run.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace ink {

struct RemoteCode {
  nlohmann::json auto_map;                   // as in the base's config.json
  std::map<std::string, std::string> files;  // name -> text
};

// Error 2 when the path is empty, is no model directory, has no auto_map, or lacks a file it names.
[[nodiscard]] RemoteCode read_remote_code(const std::filesystem::path& base);

}  // namespace ink

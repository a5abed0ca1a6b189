// Where tokenizer tests find their golden rows and, if they are there, the released InternLM
// models: in $INKSTONE_SHARED/tokenizers, else in ../shared/tokenizers beside the source folder.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/golden_folder.h"

namespace ink {

inline std::vector<nlohmann::json> read_rows(const std::filesystem::path& path) {
  std::vector<nlohmann::json> rows;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) rows.push_back(nlohmann::json::parse(line));
  if (rows.empty()) throw std::runtime_error("no rows in " + path.string());
  return rows;
}

// Absent models are said aloud: a test that calls this returns early then.
inline std::optional<std::string> released_model(const std::string& name) {
  const char* shared = std::getenv("INKSTONE_SHARED");
  const std::filesystem::path folder =
      shared != nullptr ? std::filesystem::path(shared)
                        : std::filesystem::path(INKSTONE_SOURCE_DIR).parent_path() / "shared";
  const auto path = folder / "tokenizers" / (name + ".model");
  if (std::filesystem::is_regular_file(path)) return path.string();
  std::cout << "[  SKIPPED ] " << path.string() << " is not there; set INKSTONE_SHARED\n";
  return std::nullopt;
}

}  // namespace ink

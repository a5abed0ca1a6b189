#include "tests/rules/tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <stdexcept>

namespace ink::rules {
namespace fs = std::filesystem;
namespace {

const fs::path& root() {
  static const fs::path path(INKSTONE_SOURCE_DIR);
  return path;
}

bool ends_in(const std::string& name, const std::vector<std::string_view>& endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

bool skipped(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename();
  return name.starts_with('.') || name == "__pycache__";
}

}  // namespace

std::vector<std::string> files_below(const std::vector<std::string>& folders,
                                     const std::vector<std::string_view>& endings) {
  std::vector<std::string> found;
  const auto keep = [&](const fs::directory_entry& entry) {
    if (entry.is_regular_file() && ends_in(entry.path().filename(), endings)) {
      found.push_back(fs::relative(entry.path(), root()).generic_string());
    }
  };
  for (const std::string& folder : folders) {
    if (folder.empty()) {
      for (const auto& entry : fs::directory_iterator(root())) keep(entry);
      continue;
    }
    if (!fs::is_directory(root() / folder)) continue;
    fs::recursive_directory_iterator walk(root() / folder);
    for (; walk != fs::recursive_directory_iterator(); ++walk) {
      if (skipped(*walk)) {
        walk.disable_recursion_pending();
      } else {
        keep(*walk);
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

const std::vector<std::string>& code_folders() {
  static const std::vector<std::string> folders = {
      "engine", "configs", "data", "models", "parallel", "optim", "launch", "tests", "bench"};
  return folders;
}

std::vector<std::string> code_files() {
  return files_below(code_folders(), {".h", ".cpp", ".cu", ".cuh"});
}

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(root() / path);
  if (!in) throw std::runtime_error("cannot read " + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool exists(const std::string& path) { return fs::exists(root() / path); }

std::vector<Include> includes_of(const std::string& path) {
  static const std::regex directive(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::vector<Include> includes;
  int number = 0;
  for (const std::string& line : lines_of(path)) {
    ++number;
    std::smatch match;
    if (std::regex_search(line, match, directive)) {
      includes.push_back({number, match[1] == "\"", match[2]});
    }
  }
  return includes;
}

}  // namespace ink::rules

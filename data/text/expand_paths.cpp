#include "data/text/expand_paths.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "engine/core/error.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

bool is_companion(const fs::path& path) {
  std::error_code status;
  const std::string name = path.string();
  for (const char* end : {".dict", ".dict.dz"}) {
    if (name.ends_with(end)) {
      return fs::exists(name.substr(0, name.size() - std::string_view(end).size()) + ".index",
                        status);
    }
  }
  return name.ends_with(".dat") && fs::exists(name.substr(0, name.size() - 4), status);
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

void add_directory(const fs::path& directory, std::vector<std::string>& files) {
  const auto options = fs::directory_options::skip_permission_denied;
  for (auto it = fs::recursive_directory_iterator(directory, options);
       it != fs::recursive_directory_iterator(); ++it) {
    if (is_hidden(it->path())) {
      if (it->is_directory()) it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file() && !is_companion(it->path())) files.push_back(it->path().string());
  }
}

std::vector<std::string> glob_matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> matches;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    matches.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  globfree(&found);
  return matches;
}

}  // namespace

std::vector<std::string> expand_paths(const std::string& pattern) {
  std::error_code status;
  const bool literal = fs::exists(pattern, status);
  std::vector<std::string> files;
  for (const std::string& match : literal ? std::vector{pattern} : glob_matches(pattern)) {
    if (fs::is_directory(match, status)) {
      add_directory(match, files);
    } else {
      files.push_back(match);
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    throw Error(ExitCode::kBadInput, pattern,
                literal ? "expected data files in this directory, got none"
                        : "expected a data file, a directory or a pattern, nothing matches");
  }
  return files;
}

}  // namespace ink

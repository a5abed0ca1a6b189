// The files of the source tree as the rule tests see them: paths relative to the root, '/' between
// parts, sorted; build folders, caches and hidden folders left out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ink::rules {

// Files below `folders` ("" is the root itself, not recursed) whose name ends in one of `endings`.
std::vector<std::string> files_below(const std::vector<std::string>& folders,
                                     const std::vector<std::string_view>& endings);

// Every folder that holds C++ of ours, tests and bench included.
const std::vector<std::string>& code_folders();

// .h, .cpp, .cu, .cuh below code_folders().
std::vector<std::string> code_files();

// The file's lines without their line ends; throws std::runtime_error when it cannot be read.
std::vector<std::string> lines_of(const std::string& path);

bool exists(const std::string& path);

struct Include {
  int line = 0;
  bool quoted = false;  // "..." rather than <...>
  std::string path;
};
std::vector<Include> includes_of(const std::string& path);

}  // namespace ink::rules

// Rules on the text of source files: size, include guards, names of folders, words that mark
// unfinished work.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>

#include "tests/rules/tree.h"

namespace ink::rules {
namespace {

constexpr size_t kMaxLines = 400;
constexpr size_t kMaxContractLines = 60;
constexpr size_t kMaxTrainerLoopLines = 200;

TEST(TextRule, AFileIsOneIdea) {
  const auto files = code_files();
  EXPECT_FALSE(files.empty());
  for (const std::string& file : files) {
    if (file.starts_with("tests/")) continue;
    const size_t count = lines_of(file).size();
    EXPECT_LE(count, kMaxLines) << file << " has " << count << " lines: split it by duty";
  }
}

TEST(TextRule, TheTrainerLoopStaysShort) {
  const std::string loop = "launch/trainer/trainer.cpp";
  if (!exists(loop)) return;
  EXPECT_LT(lines_of(loop).size(), kMaxTrainerLoopLines);
}

TEST(TextRule, AReadmeBesideAContractIsShort) {
  for (const std::string& file : files_below(
           {"engine", "configs", "data", "models", "parallel", "optim", "launch"}, {"README.md"})) {
    const size_t count = lines_of(file).size();
    EXPECT_LE(count, kMaxContractLines) << file << " has " << count << " lines";
  }
}

// The words are put together here so that this file does not contain them.
TEST(TextRule, NothingIsMarkedAsUnfinished) {
  const std::regex mark(
      "\\b(TO"
      "DO|FIX"
      "ME|XX"
      "X)\\b");
  auto files =
      files_below({"", "engine", "configs", "data", "models", "parallel", "optim", "launch",
                   "tests", "bench", "docs", "cmake"},
                  {".h", ".cpp", ".cu", ".cuh", ".md", ".txt", ".cmake", ".sh", ".py", ".yaml"});
  for (const std::string& file : files) {
    if (file.starts_with("tests/golden/") || file.starts_with("tests/fuzz/corpus/")) continue;
    int number = 0;
    for (const std::string& line : lines_of(file)) {
      ++number;
      EXPECT_FALSE(std::regex_search(line, mark)) << file << ':' << number << ": " << line;
    }
  }
}

TEST(TextRule, EveryHeaderIsGuardedAndOpensWithAParagraph) {
  for (const std::string& file : files_below(code_folders(), {".h", ".cuh"})) {
    const auto lines = lines_of(file);
    EXPECT_TRUE(std::find(lines.begin(), lines.end(), "#pragma once") != lines.end())
        << file << " has no #pragma once";
    EXPECT_TRUE(!lines.empty() && lines.front().starts_with("//"))
        << file << " does not open with what it is for";
  }
}

TEST(TextRule, AHeaderLiesBesideItsSourceWhichIncludesItFirst) {
  for (const std::string& file : files_below(code_folders(), {".cpp"})) {
    const std::string header = file.substr(0, file.size() - 4) + ".h";
    if (!exists(header)) continue;
    const auto includes = includes_of(file);
    ASSERT_FALSE(includes.empty()) << file << " does not include its own header";
    EXPECT_EQ(includes.front().path, header) << file << " includes something before its own header";
  }
}

TEST(TextRule, NamespacesAreNotOpenedWide) {
  const std::regex open(R"(^\s*using\s+namespace\s+(?!std::(chrono_)?literals))");
  for (const std::string& file : code_files()) {
    int number = 0;
    for (const std::string& line : lines_of(file)) {
      ++number;
      EXPECT_FALSE(std::regex_search(line, open)) << file << ':' << number << ": " << line;
    }
  }
}

// main turns errors into a line and an exit code; whatever is below throws.
TEST(TextRule, NothingBelowLaunchPrintsOrExits) {
  const std::regex print(
      R"((std::cout|std::cerr|\bprintf\(|\bfprintf\(|fmt::print\(|std::exit\(|\b_?exit\(|\bputs\())");
  for (const std::string& file :
       files_below({"engine", "configs", "data", "models", "parallel", "optim"},
                   {".h", ".cpp", ".cu", ".cuh"})) {
    int number = 0;
    for (const std::string& line : lines_of(file)) {
      ++number;
      const std::string code = line.substr(0, line.find("//"));
      EXPECT_FALSE(std::regex_search(code, print)) << file << ':' << number << ": " << line;
    }
  }
}

TEST(TextRule, NoFolderIsCalledUtils) {
  for (const std::string& file : code_files()) {
    for (const auto& part : std::filesystem::path(file).parent_path()) {
      EXPECT_NE(part, "utils") << file;
      EXPECT_NE(part, "include") << file;
      EXPECT_NE(part, "src") << file;
    }
  }
  EXPECT_FALSE(exists("common"));
}

}  // namespace
}  // namespace ink::rules

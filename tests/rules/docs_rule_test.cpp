// Rules on the documents: every page is reachable, every link leads to a file.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/rules/tree.h"

namespace ink::rules {
namespace {

// Targets of the Markdown links of a page that are files of the tree, as paths from the root.
std::vector<std::string> links_of(const std::string& page) {
  static const std::regex link(R"(\]\(([^)#\s]+)(#[^)]*)?\))");
  std::vector<std::string> targets;
  bool in_code = false;
  for (const std::string& line : lines_of(page)) {
    if (line.starts_with("```")) in_code = !in_code;
    if (in_code) continue;
    for (std::sregex_iterator it(line.begin(), line.end(), link), end; it != end; ++it) {
      const std::string target = (*it)[1];
      if (target.find("://") != std::string::npos || target.starts_with("mailto:")) continue;
      const auto folder = std::filesystem::path(page).parent_path();
      targets.push_back((folder / target).lexically_normal().generic_string());
    }
  }
  return targets;
}

std::vector<std::string> pages() {
  auto all = files_below({"", "docs", "engine", "configs", "data", "models", "parallel", "optim",
                          "launch", "tests", "bench"},
                         {".md"});
  std::erase_if(all, [](const std::string& page) { return page.starts_with("tests/golden/"); });
  return all;
}

TEST(DocsRule, EveryLinkLeadsToAFile) {
  for (const std::string& page : pages()) {
    for (const std::string& target : links_of(page)) {
      EXPECT_TRUE(exists(target)) << page << " links to " << target << ", which does not exist";
    }
  }
}

TEST(DocsRule, EveryPageIsReachedFromTheReadme) {
  std::set<std::string> seen;
  std::vector<std::string> open = {"README.md", "docs/README.md"};
  while (!open.empty()) {
    const std::string page = open.back();
    open.pop_back();
    if (!seen.insert(page).second || !page.ends_with(".md")) continue;
    ASSERT_TRUE(exists(page)) << page;
    for (const std::string& target : links_of(page)) {
      if (exists(target)) open.push_back(target);
    }
  }
  for (const std::string& page : files_below({"docs"}, {".md"})) {
    EXPECT_TRUE(seen.contains(page)) << page << " is linked from no page that the README leads to";
  }
}

}  // namespace
}  // namespace ink::rules

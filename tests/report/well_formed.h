// Is a text well-formed markup? Enough of XML for what the report writes: elements close in order,
// attributes are quoted, `&` and `<` stand only where they mean something.
#pragma once

#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

namespace ink {

inline void expect_well_formed(const std::string& text) {
  static const std::regex kTag(
      R"re(^<(/?)([A-Za-z][A-Za-z0-9]*)((?:\s+[A-Za-z][A-Za-z0-9:-]*="[^"<]*")*)\s*(/?)>)re");
  static const std::regex kEntity("^&(amp|lt|gt|quot);");
  std::vector<std::string> open;
  size_t at = text.starts_with("<!DOCTYPE html>") ? text.find('>') + 1 : 0;
  for (; at < text.size(); ++at) {
    const std::string rest = text.substr(at, 4096);
    std::smatch match;
    if (text[at] == '&') {
      ASSERT_TRUE(std::regex_search(rest, match, kEntity)) << rest.substr(0, 60);
    }
    if (text[at] != '<') continue;
    const size_t end = text.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = text.substr(at, end - at + 1);
    // A long list of points is no business of the pattern.
    if (tag.starts_with("<polyline ")) {
      ASSERT_TRUE(tag.ends_with("\"/>")) << tag.substr(0, 60);
      at = end;
      continue;
    }
    ASSERT_TRUE(std::regex_match(tag, match, kTag)) << tag;
    if (match[1].length() > 0) {
      ASSERT_FALSE(open.empty()) << tag;
      EXPECT_EQ(open.back(), match[2].str());
      open.pop_back();
    } else if (match[4].length() == 0) {
      open.push_back(match[2].str());
    }
    at = end;
  }
  EXPECT_TRUE(open.empty()) << "not closed: " << open.back();
}

}  // namespace ink

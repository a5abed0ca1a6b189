// A parsed configuration before it meets any schema: maps, lists and scalar text, each with the
// place it was written at. Produced by yaml_reader.h, merged by run_file.cpp, consumed by binder.h,
// and produced again by dump.h.
#pragma once

#include <string>
#include <vector>

namespace ink {

struct NodeEntry;

struct ConfigNode {
  enum class Kind { kNull, kScalar, kMap, kList };
  enum class Style { kPlain, kQuoted };

  Kind kind = Kind::kNull;
  Style style = Style::kPlain;     // of a scalar: a quoted one is never a number or a boolean
  std::string text;                // of a scalar
  std::vector<NodeEntry> entries;  // of a map, in the order written
  std::vector<ConfigNode> items;   // of a list
  std::string place;               // `run.yaml:7:3` or `command line`

  [[nodiscard]] const ConfigNode* find(const std::string& key) const;
  [[nodiscard]] ConfigNode* find(const std::string& key);
  // What an error calls it: `0.1`, `"0.1"`, `a list`, `a map`, `nothing`.
  [[nodiscard]] std::string shown() const;
};

struct NodeEntry {
  std::string key;
  std::string place;
  ConfigNode value;
};

// Values of `over` replace those of `under`; maps are merged key by key, lists are replaced.
void merge_into(ConfigNode& under, ConfigNode over);

// `a` and `b` joined with a dot, or `b` alone at the root.
std::string join_key(const std::string& a, const std::string& b);

// Text of a user on one line of an error: control characters escaped, cut after 40 characters.
std::string shown_text(const std::string& text);

}  // namespace ink

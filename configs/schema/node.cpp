#include "configs/schema/node.h"

#include <fmt/format.h>

#include <algorithm>

namespace ink {

const ConfigNode* ConfigNode::find(const std::string& key) const {
  auto found = std::ranges::find(entries, key, &NodeEntry::key);
  return found == entries.end() ? nullptr : &found->value;
}

ConfigNode* ConfigNode::find(const std::string& key) {
  return const_cast<ConfigNode*>(static_cast<const ConfigNode*>(this)->find(key));
}

std::string ConfigNode::shown() const {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kMap:
      return "a map";
    case Kind::kList:
      return fmt::format("a list of {}", items.size());
    case Kind::kScalar:
      break;
  }
  return style == Style::kQuoted ? '"' + shown_text(text) + '"' : shown_text(text);
}

void merge_into(ConfigNode& under, ConfigNode over) {
  if (under.kind != ConfigNode::Kind::kMap || over.kind != ConfigNode::Kind::kMap) {
    under = std::move(over);
    return;
  }
  for (NodeEntry& entry : over.entries) {
    auto found = std::ranges::find(under.entries, entry.key, &NodeEntry::key);
    if (found == under.entries.end()) {
      under.entries.push_back(std::move(entry));
    } else {
      found->place = std::move(entry.place);
      merge_into(found->value, std::move(entry.value));
    }
  }
  under.place = std::move(over.place);
}

std::string join_key(const std::string& a, const std::string& b) {
  return a.empty() ? b : a + "." + b;
}

std::string shown_text(const std::string& text) {
  constexpr size_t kLongest = 40;
  std::string out;
  size_t shown = 0;
  for (const char raw : text) {
    const auto c = static_cast<unsigned char>(raw);
    const bool starts_character = (c & 0xC0) != 0x80;
    if (starts_character && shown++ == kLongest) return out + "...";
    if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += raw;
    }
  }
  return out;
}

}  // namespace ink

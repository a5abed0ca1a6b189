#include "configs/schema/dump.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>

namespace ink {
namespace {

ConfigNode plain(std::string text) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kScalar;
  node.text = std::move(text);
  return node;
}

// Plain only what no YAML reader can take for anything but text.
bool is_plain_word(const std::string& text) {
  if (text.empty() ||
      !(std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '_' || text[0] == '/'))
    return false;
  const bool safe = std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("_-./").find(c) != std::string_view::npos;
  });
  constexpr std::string_view kWords[] = {"null", "true", "false", "yes", "no",
                                         "on",   "off",  "y",     "n"};
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return std::tolower(static_cast<unsigned char>(c)); });
  return safe && std::ranges::find(kWords, lower) == std::end(kWords);
}

void write_text(YAML::Emitter& out, const std::string& text, ConfigNode::Style style) {
  if (style == ConfigNode::Style::kQuoted) out << YAML::DoubleQuoted;
  out << text;
}

bool fits_a_line(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kMap) return node.entries.empty();
  return std::ranges::all_of(node.items, [](const ConfigNode& item) {
    return item.kind != ConfigNode::Kind::kMap && fits_a_line(item);
  });
}

void write(YAML::Emitter& out, const ConfigNode& node, bool flow) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      out << YAML::Null;
      return;
    case ConfigNode::Kind::kScalar:
      write_text(out, node.text, node.style);
      return;
    case ConfigNode::Kind::kList:
      if (flow || fits_a_line(node)) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const ConfigNode& item : node.items) write(out, item, flow || fits_a_line(node));
      out << YAML::EndSeq;
      return;
    case ConfigNode::Kind::kMap:
      if (flow || node.entries.empty()) out << YAML::Flow;
      out << YAML::BeginMap;
      for (const NodeEntry& entry : node.entries) {
        out << YAML::Key;
        write_text(
            out, entry.key,
            is_plain_word(entry.key) ? ConfigNode::Style::kPlain : ConfigNode::Style::kQuoted);
        out << YAML::Value;
        write(out, entry.value, flow);
      }
      out << YAML::EndMap;
      return;
  }
}

}  // namespace

ConfigNode scalar_node(bool value) { return plain(value ? "true" : "false"); }
ConfigNode scalar_node(int64_t value) { return plain(fmt::to_string(value)); }
ConfigNode scalar_node(double value) { return plain(fmt::format("{}", value)); }
ConfigNode scalar_node(const Bytes& value) { return plain(fmt::to_string(value.value)); }

ConfigNode scalar_node(const std::string& value) {
  ConfigNode node = plain(value);
  if (!is_plain_word(value)) node.style = ConfigNode::Style::kQuoted;
  return node;
}

ConfigNode scalar_node(const StepRange& value) {
  if (value.first == value.last) return scalar_node(value.first);
  ConfigNode node;
  node.kind = ConfigNode::Kind::kList;
  node.items = {scalar_node(value.first), scalar_node(value.last)};
  return node;
}

std::string emit_yaml(const ConfigNode& root) {
  YAML::Emitter out;
  write(out, root, false);
  return std::string(out.c_str()) + "\n";
}

std::string emit_flow(const ConfigNode& node) {
  YAML::Emitter out;
  write(out, node, true);
  return out.c_str();
}

}  // namespace ink

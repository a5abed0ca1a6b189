// Struct -> ConfigNode -> YAML: the inverse of binder.h, from the same field lists.
//
// to_node() writes every key except unset ones; emit_yaml() prints it so that reading it again
// gives equal options, numbers included (shortest form that reads back to the same double).
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/binder.h"
#include "configs/schema/node.h"

namespace ink {

ConfigNode scalar_node(bool value);
ConfigNode scalar_node(int64_t value);
ConfigNode scalar_node(double value);
ConfigNode scalar_node(const Bytes& value);
ConfigNode scalar_node(const std::string& value);
ConfigNode scalar_node(const StepRange& value);  // a list where first < last

// Block style, lists of scalars in one line; ends with a newline.
std::string emit_yaml(const ConfigNode& root);
// One line: `{every: 0, prompts: []}`.
std::string emit_flow(const ConfigNode& node);

template <class T>
ConfigNode to_node(const T& value);

namespace dumping {

struct FieldWriter {
  ConfigNode& map;

  template <class T>
  void field(std::string_view name, const T& member, std::string_view, const Rule& = {}) {
    ConfigNode value = to_node(member);
    if (value.kind != ConfigNode::Kind::kNull)
      map.entries.push_back({std::string(name), {}, std::move(value)});
  }
};

template <class List>
ConfigNode list_node(const List& list) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kList;
  for (const auto& item : list) node.items.push_back(to_node(item));
  return node;
}

template <class T>
struct Writer {
  static ConfigNode write(const T& value) {
    if constexpr (HasChoices<T>) {
      for (const Choice<T>& choice : Choices<T>::kBuilt)
        if (choice.value == value) return scalar_node(std::string(choice.name));
      return {};
    } else if constexpr (HasFields<T>) {
      T copy = value;  // a field list is written for readers and so takes members by reference
      if constexpr (HasListForm<T>) {
        if (!copy.list_form().empty()) return list_node(copy.list_form());
      }
      ConfigNode node;
      node.kind = ConfigNode::Kind::kMap;
      FieldWriter writer{node};
      copy.fields(writer);
      return node;
    } else {
      return scalar_node(value);
    }
  }
};

template <class T>
struct Writer<std::optional<T>> {
  static ConfigNode write(const std::optional<T>& value) {
    return value ? to_node(*value) : ConfigNode{};
  }
};

template <class T>
struct Writer<std::vector<T>> {
  static ConfigNode write(const std::vector<T>& value) { return list_node(value); }
};

template <class T, size_t kSize>
struct Writer<std::array<T, kSize>> {
  static ConfigNode write(const std::array<T, kSize>& value) { return list_node(value); }
};

template <>
struct Writer<std::map<std::string, std::string>> {
  static ConfigNode write(const std::map<std::string, std::string>& value) {
    ConfigNode node;
    node.kind = ConfigNode::Kind::kMap;
    for (const auto& [key, text] : value) node.entries.push_back({key, {}, scalar_node(text)});
    return node;
  }
};

}  // namespace dumping

template <class T>
ConfigNode to_node(const T& value) {
  return dumping::Writer<T>::write(value);
}

}  // namespace ink

// ConfigNode -> struct: fills any options struct from a parsed map by visiting its field list.
//
// bind(node, options, keys, places) checks the keys of every map first (an unknown one names the
// nearest), then converts each value under its rule. Keys that are absent keep the member's
// initialiser. `places` receives where every key was written. Errors are of code 2.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "configs/schema/field.h"
#include "configs/schema/keys.h"
#include "configs/schema/node.h"
#include "configs/schema/place.h"
#include "configs/schema/scalar.h"

namespace ink {

template <class T>
concept HasChoices = std::is_enum_v<T> && requires {
  Choices<T>::kBuilt;
};

// Stands in for any visitor where only the presence of a field list is asked.
struct AnyVisitor {
  template <class T>
  void field(std::string_view, T&, std::string_view, Rule = {}) {}
};

template <class T>
concept HasFields = requires(T& t, AnyVisitor& v) {
  t.fields(v);
};

template <class T>
concept HasListForm = HasFields<T> && requires(T& t) {
  t.list_form();
};

// A struct of which a single word stands for one filling.
template <class T>
concept HasWordForm = HasFields<T> && requires(T& t) {
  T::kWord;
  t.word_form();
};

template <class E>
constexpr bool kHasPlanned = requires {
  Choices<E>::kPlanned;
};

namespace binding {

struct Context {
  const KeyTable& keys;
  Places& places;
};

template <class T>
void read(const ConfigNode& node, T& out, const Rule& rule, const std::string& key,
          Context& context);

// Built names joined by `|`: `fp32|bf16`.
template <HasChoices E>
std::string choice_list() {
  std::string list;
  for (const Choice<E>& choice : Choices<E>::kBuilt) {
    if (!list.empty()) list += '|';
    list += choice.name;
  }
  return list;
}

template <HasChoices E>
E read_choice(const ConfigNode& node, const std::string& key) {
  const std::string expected = "one of " + choice_list<E>();
  if (node.kind != ConfigNode::Kind::kScalar) refuse_value(node, key, expected);
  for (const Choice<E>& choice : Choices<E>::kBuilt)
    if (choice.name == node.text) return choice.value;
  if constexpr (kHasPlanned<E>) {
    for (const std::string_view name : Choices<E>::kPlanned)
      if (name == node.text) refuse_value(node, key, expected, node.text + " is not built yet");
  }
  refuse_value(node, key, expected);
}

// First pass over a struct: the names of its keys.
struct NameCollector {
  std::vector<std::string_view> names;
  template <class T>
  void field(std::string_view name, T&, std::string_view, Rule = {}) {
    names.push_back(name);
  }
};

// Second pass: the values.
struct FieldReader {
  const ConfigNode& map;
  const std::string& path;
  Context& context;

  template <class T>
  void field(std::string_view name, T& member, std::string_view, const Rule& rule = {}) {
    if (const ConfigNode* value = map.find(std::string(name)))
      read(*value, member, rule, join_key(path, std::string(name)), context);
  }
};

template <HasFields T>
void read_fields(const ConfigNode& node, T& out, const std::string& path, Context& context) {
  if (node.kind != ConfigNode::Kind::kMap)
    refuse_value(node, path.empty() ? "the file" : path, "a map of keys");
  NameCollector collector;
  out.fields(collector);
  for (const NodeEntry& entry : node.entries) {
    const std::string key = join_key(path, entry.key);
    if (std::find(collector.names.begin(), collector.names.end(), entry.key) ==
        collector.names.end())
      refuse_key(context.keys, entry.place, key);
    context.places.set(key, entry.value.place);
  }
  FieldReader reader{node, path, context};
  out.fields(reader);
}

template <class T>
struct Reader {
  static void read(const ConfigNode& node, T& out, const Rule&, const std::string& key,
                   Context& context) {
    if constexpr (HasChoices<T>) {
      out = read_choice<T>(node, key);
    } else if constexpr (HasListForm<T>) {
      using List = std::remove_reference_t<decltype(out.list_form())>;
      if (node.kind == ConfigNode::Kind::kList) {
        Reader<List>::read(node, out.list_form(), {}, key, context);
      } else {
        read_fields(node, out, key, context);
      }
    } else if constexpr (HasWordForm<T>) {
      read_word_or_fields(node, out, key, context);
    } else {
      read_fields(node, out, key, context);
    }
  }

 private:
  static void read_word_or_fields(const ConfigNode& node, T& out, const std::string& key,
                                  Context& context) requires HasWordForm<T> {
    if (node.kind == ConfigNode::Kind::kMap) return read_fields(node, out, key, context);
    if (node.kind != ConfigNode::Kind::kScalar || node.text != T::kWord)
      refuse_value(node, key, std::string(T::kWord) + " or a map of switches");
    out.word_form();
  }
};

template <>
struct Reader<bool> {
  static void read(const ConfigNode& node, bool& out, const Rule&, const std::string& key,
                   Context&) {
    out = to_bool(node, key);
  }
};

template <>
struct Reader<int64_t> {
  static void read(const ConfigNode& node, int64_t& out, const Rule& rule, const std::string& key,
                   Context&) {
    out = to_integer(node, rule, key);
  }
};

template <>
struct Reader<double> {
  static void read(const ConfigNode& node, double& out, const Rule& rule, const std::string& key,
                   Context&) {
    out = to_number(node, rule, key);
  }
};

template <>
struct Reader<Bytes> {
  static void read(const ConfigNode& node, Bytes& out, const Rule& rule, const std::string& key,
                   Context&) {
    out = to_bytes(node, rule, key);
  }
};

template <>
struct Reader<StepRange> {
  static void read(const ConfigNode& node, StepRange& out, const Rule&, const std::string& key,
                   Context&) {
    out = to_step_range(node, key);
  }
};

template <>
struct Reader<std::string> {
  static void read(const ConfigNode& node, std::string& out, const Rule&, const std::string& key,
                   Context&) {
    out = to_text(node, key);
  }
};

// An explicit `key: null` unsets a value that a base gave.
template <class T>
struct Reader<std::optional<T>> {
  static void read(const ConfigNode& node, std::optional<T>& out, const Rule& rule,
                   const std::string& key, Context& context) {
    out.reset();
    if (node.kind != ConfigNode::Kind::kNull)
      Reader<T>::read(node, out.emplace(), rule, key, context);
  }
};

template <class T>
struct Reader<std::vector<T>> {
  static void read(const ConfigNode& node, std::vector<T>& out, const Rule& rule,
                   const std::string& key, Context& context) {
    if (node.kind != ConfigNode::Kind::kList) refuse_value(node, key, "a list");
    out.clear();
    for (const ConfigNode& item : node.items) {
      const std::string item_key = join_key(key, std::to_string(out.size()));
      context.places.set(item_key, item.place);
      Reader<T>::read(item, out.emplace_back(), rule, item_key, context);
    }
  }
};

template <class T, size_t kSize>
struct Reader<std::array<T, kSize>> {
  static void read(const ConfigNode& node, std::array<T, kSize>& out, const Rule& rule,
                   const std::string& key, Context& context) {
    if (node.kind != ConfigNode::Kind::kList || node.items.size() != kSize)
      refuse_value(node, key, "a list of " + std::to_string(kSize));
    for (size_t i = 0; i < kSize; ++i)
      Reader<T>::read(node.items[i], out[i], rule, join_key(key, std::to_string(i)), context);
  }
};

template <>
struct Reader<std::map<std::string, std::string>> {
  static void read(const ConfigNode& node, std::map<std::string, std::string>& out, const Rule&,
                   const std::string& key, Context& context) {
    if (node.kind != ConfigNode::Kind::kMap) refuse_value(node, key, "a map of text");
    out.clear();
    for (const NodeEntry& entry : node.entries) {
      const std::string entry_key = join_key(key, entry.key);
      context.places.set(entry_key, entry.value.place);
      out[entry.key] = to_text(entry.value, entry_key);
    }
  }
};

template <class T>
void read(const ConfigNode& node, T& out, const Rule& rule, const std::string& key,
          Context& context) {
  Reader<T>::read(node, out, rule, key, context);
}

}  // namespace binding

template <HasFields T>
void bind(const ConfigNode& node, T& out, const KeyTable& keys, Places& places) {
  binding::Context context{keys, places};
  binding::read_fields(node, out, {}, context);
}

}  // namespace ink

#include "configs/schema/describe.h"

#include <fmt/format.h>

#include <string_view>

#include "configs/schema/dump.h"
#include "configs/schema/run_options.h"
#include "configs/schema/scalar.h"

namespace ink {
namespace {

// The type of a key as a reader of the page names it, and whether keys lie below it.
template <class T>
struct TypeName {
  static std::string get() {
    if constexpr (HasChoices<T>) return binding::choice_list<T>();
    return "map";
  }
};
template <>
struct TypeName<bool> {
  static std::string get() { return "true|false"; }
};
template <>
struct TypeName<int64_t> {
  static std::string get() { return "integer"; }
};
template <>
struct TypeName<double> {
  static std::string get() { return "number"; }
};
template <>
struct TypeName<std::string> {
  static std::string get() { return "text"; }
};
template <>
struct TypeName<Bytes> {
  static std::string get() { return "size"; }
};
template <>
struct TypeName<StepRange> {
  static std::string get() { return "step or [first, last]"; }
};
template <class T>
struct TypeName<std::optional<T>> : TypeName<T> {};
template <class T>
struct TypeName<std::vector<T>> {
  static std::string get() {
    return fmt::format("list of {}{}", TypeName<T>::get(), HasFields<T> ? "s" : "");
  }
};
template <class T, size_t kSize>
struct TypeName<std::array<T, kSize>> {
  static std::string get() { return fmt::format("list of {} {}s", kSize, TypeName<T>::get()); }
};
template <>
struct TypeName<std::map<std::string, std::string>> {
  static std::string get() { return "map of text"; }
};

template <class T>
struct Unwrap {
  using Type = T;
  static constexpr bool kIsList = false;
};
template <class T>
struct Unwrap<std::optional<T>> : Unwrap<T> {};
template <class T>
struct Unwrap<std::vector<T>> {
  using Type = T;
  static constexpr bool kIsList = true;
};

std::string range_of(const Rule& rule) {
  const std::string text = describe("", rule);
  return text.empty() ? text : text.substr(1);
}

class Describer {
 public:
  Describer(std::vector<KeyRow>& rows, std::string path, int depth)
      : rows_(rows), path_(std::move(path)), depth_(depth) {}

  template <class T>
  void field(std::string_view name, const T& member, std::string_view help, const Rule& rule = {}) {
    using Inner = typename Unwrap<T>::Type;
    const std::string key = join_key(path_, std::string(name));
    const ConfigNode value = to_node(member);
    const bool shows_default = !HasFields<T>;
    std::string fallback = shows_default ? emit_flow(value) : "";
    if (shows_default && (value.kind == ConfigNode::Kind::kNull || fallback == "\"\""))
      fallback = "unset";
    rows_.push_back({key, TypeName<T>::get(), fallback, range_of(rule), std::string(help), depth_});
    if constexpr (HasFields<Inner>) {
      Describer below(rows_, key + (Unwrap<T>::kIsList ? "[]" : ""), depth_ + 1);
      Inner defaults;
      defaults.fields(below);
      if constexpr (HasListForm<Inner>) {
        Describer items(rows_, key + "[]", depth_ + 1);
        typename std::remove_reference_t<decltype(defaults.list_form())>::value_type item;
        item.fields(items);
      }
    }
  }

 private:
  std::vector<KeyRow>& rows_;
  std::string path_;
  int depth_;
};

}  // namespace

std::vector<KeyRow> describe_run() {
  std::vector<KeyRow> rows;
  Describer describer(rows, {}, 0);
  RunOptions defaults;
  defaults.fields(describer);
  return rows;
}

}  // namespace ink

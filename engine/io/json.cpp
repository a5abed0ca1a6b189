#include "engine/io/json.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ink {
namespace {

using nlohmann::json;

// Builds the document from parse events; `stack_` holds the open containers. Pointers stay valid
// because a container grows only while it is the innermost one.
class DocumentBuilder {
 public:
  DocumentBuilder(const std::string& place, int max_depth) : place_(place), max_depth_(max_depth) {}

  json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string& text) {
    if (!std::isfinite(value))
      fail(fmt::format("expected a finite number, got {}", quote_name(text)));
    return add(value);
  }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(json::binary_t&) { return false; }
  bool start_object(size_t) { return open(json::object()); }
  bool start_array(size_t) { return open(json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (stack_.back()->contains(name)) fail(fmt::format("key {} is given twice", quote_name(name)));
    key_ = std::move(name);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception& cause) {
    fail(fmt::format("expected JSON, got an error at byte {}: {}", position,
                     quote_name(cause.what())));
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ExitCode::kBadInput, place_, message);
  }
  bool close() {
    stack_.pop_back();
    return true;
  }
  bool open(json container) {
    if (static_cast<int>(stack_.size()) >= max_depth_) {
      fail(fmt::format("expected at most {} nested levels, got more", max_depth_));
    }
    stack_.push_back(&place_value(std::move(container)));
    return true;
  }
  bool add(json value) {
    place_value(std::move(value));
    return true;
  }
  json& place_value(json value) {
    if (stack_.empty()) return root_ = std::move(value);
    json& parent = *stack_.back();
    if (parent.is_object()) return parent[key_] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }

  const std::string& place_;
  int max_depth_;
  json root_;
  std::vector<json*> stack_;
  std::string key_;
};

}  // namespace

json parse_json(std::string_view text, const std::string& place, JsonLimits limits) {
  if (text.size() > limits.max_bytes) {
    throw Error(ExitCode::kBadInput, place,
                fmt::format("expected at most {} bytes, got {}", limits.max_bytes, text.size()));
  }
  DocumentBuilder builder(place, limits.max_depth);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

json read_json(const File& file, JsonLimits limits) {
  return parse_json(read_text(file, limits.max_bytes), file.place(), limits);
}

json read_json(const std::filesystem::path& path, JsonLimits limits) {
  return read_json(File::open(path), limits);
}

std::string quote_name(std::string_view text) {
  constexpr size_t kMax = 200;
  std::string shown =
      json(std::string(text.substr(0, kMax))).dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > kMax ? shown + "..." : shown;
}

std::string describe_json(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_string()) return "string " + quote_name(value.get_ref<const std::string&>());
  if (value.is_structured()) return fmt::format("{} of {}", value.type_name(), value.size());
  return fmt::format("{} {}", value.type_name(), value.dump());
}

JsonReader::JsonReader(const json& object, std::string place, std::string path)
    : object_(&object), place_(std::move(place)), path_(std::move(path)) {
  if (!object.is_object()) {
    throw Error(ExitCode::kBadInput, path_.empty() ? place_ : place_ + ": " + path_,
                fmt::format("expected an object, got {}", describe_json(object)));
  }
}

const json* JsonReader::find(std::string_view key) const {
  const auto it = object_->find(std::string(key));
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

std::string JsonReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

bool JsonReader::has(std::string_view key) const { return find(key) != nullptr; }

std::vector<std::string> JsonReader::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_->items()) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

const json& JsonReader::at(std::string_view key) const {
  const json* value = find(key);
  if (!value) throw error(key, "a value");
  return *value;
}

Error JsonReader::error(std::string_view key, std::string_view expected) const {
  const json* value = find(key);
  return {ExitCode::kBadInput, fmt::format("{}: {}", place_, path_of(key)),
          fmt::format("expected {}, got {}", expected, value ? describe_json(*value) : "nothing")};
}

int64_t JsonReader::exact_integer(const json& value, std::string_view key, int64_t min,
                                  int64_t max) const {
  // Values above the int64 range are stored unsigned; get<int64_t> would wrap.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits || value.get<int64_t>() < min || value.get<int64_t>() > max) {
    throw error(key, min == std::numeric_limits<int64_t>::min() &&
                             max == std::numeric_limits<int64_t>::max()
                         ? "an integer"
                         : fmt::format("an integer from {} to {}", min, max));
  }
  return value.get<int64_t>();
}

int64_t JsonReader::integer(std::string_view key, int64_t min, int64_t max) const {
  const json* value = find(key);
  if (!value) throw error(key, "an integer");
  return exact_integer(*value, key, min, max);
}

std::vector<int64_t> JsonReader::integers(std::string_view key, int64_t min, int64_t max) const {
  const json& value = at(key);
  if (!value.is_array()) return {exact_integer(value, key, min, max)};
  std::vector<int64_t> list;
  for (const json& item : value) list.push_back(exact_integer(item, key, min, max));
  return list;
}

double JsonReader::number(std::string_view key) const {
  const json* value = find(key);
  if (!value || !value->is_number()) throw error(key, "a number");
  return value->get<double>();
}

bool JsonReader::boolean(std::string_view key) const {
  const json* value = find(key);
  if (!value || !value->is_boolean()) throw error(key, "true or false");
  return value->get<bool>();
}

bool JsonReader::boolean_or(std::string_view key, bool absent) const {
  return has(key) ? boolean(key) : absent;
}

std::string JsonReader::string(std::string_view key) const {
  const json* value = find(key);
  if (!value || !value->is_string()) throw error(key, "a string");
  return value->get<std::string>();
}

JsonReader JsonReader::object(std::string_view key) const {
  const json* value = find(key);
  if (!value || !value->is_object()) throw error(key, "an object");
  return {*value, place_, path_of(key)};
}

std::vector<std::string> JsonReader::strings(std::string_view key) const {
  const json& value = at(key);
  if (!value.is_array()) throw error(key, "a list of strings");
  std::vector<std::string> list;
  for (const json& item : value) {
    if (!item.is_string()) throw error(key, "a list of strings");
    list.push_back(item.get<std::string>());
  }
  return list;
}

}  // namespace ink

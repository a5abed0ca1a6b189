#include "configs/schema/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "configs/schema/bad_byte.h"
#include "engine/core/error.h"

namespace ink {
namespace {

// Turns a position of the library (from 0) or of our byte check into the place of an error.
class Origin {
 public:
  static Origin file(std::string name) { return Origin(std::move(name), true); }
  static Origin fixed(std::string place) { return Origin(std::move(place), false); }

  [[nodiscard]] std::string at(int line, int column) const {
    return positions_ ? fmt::format("{}:{}:{}", name_, line + 1, column + 1) : name_;
  }
  [[nodiscard]] std::string at(const YAML::Mark& mark) const { return at(mark.line, mark.column); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  Origin(std::string name, bool positions) : name_(std::move(name)), positions_(positions) {}
  std::string name_;
  bool positions_;
};

// Whether the quote that opens at `at` is closed again: the library takes the end of the file for
// it.
bool is_closed(std::string_view text, size_t at) {
  const char quote = text[at];
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      return true;
    }
  }
  return false;
}

// Receives the parser's events. Frames are the open maps and lists, outermost first.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const Origin& origin) : text_(text), origin_(origin) {}

  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) refuse(mark, "expected one document, got the start of a second");
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    refuse(mark, "expected no anchors, got &" + shown_text(name));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "expected no aliases, got one");
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (expects_key()) refuse(mark, "expected a key, got nothing");
    add(new_node(mark, ConfigNode::Kind::kNull));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& text) override {
    refuse_tag(mark, tag);
    if (tag == "!") check_quotes(mark);
    if (expects_key()) {
      take_key(mark, text);
      return;
    }
    ConfigNode node = new_node(mark, ConfigNode::Kind::kScalar);
    node.style = tag == "!" ? ConfigNode::Style::kQuoted : ConfigNode::Style::kPlain;
    node.text = text;
    add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, ConfigNode::Kind::kList);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, ConfigNode::Kind::kMap);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    ConfigNode node;
    bool has_key = false;
    std::string key, key_place;
    std::unordered_map<std::string, std::string> seen;  // key -> place
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& message) const {
    throw Error(ExitCode::kConfig, origin_.at(mark), message);
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    // The library calls an untagged plain node "?" and an untagged quoted scalar "!".
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, "expected no tags, got " + shown_text(tag));
  }

  void check_quotes(const YAML::Mark& mark) const {
    const auto at = static_cast<size_t>(mark.pos);
    if (at >= text_.size() || (text_[at] != '"' && text_[at] != '\''))
      refuse(mark, "expected no tags, got !");
    if (!is_closed(text_, at)) refuse(mark, "expected a closing quote, got the end of the text");
  }

  [[nodiscard]] bool expects_key() const {
    return !frames_.empty() && frames_.back().node.kind == ConfigNode::Kind::kMap &&
           !frames_.back().has_key;
  }

  ConfigNode new_node(const YAML::Mark& mark, ConfigNode::Kind kind) {
    if (++nodes_ > kMostConfigNodes)
      refuse(mark, fmt::format("expected at most {} values", kMostConfigNodes));
    ConfigNode node;
    node.kind = kind;
    node.place = origin_.at(mark);
    return node;
  }

  void take_key(const YAML::Mark& mark, const std::string& key) {
    Frame& frame = frames_.back();
    if (key == "<<") refuse(mark, "expected no merge keys, got <<");
    const std::string place = origin_.at(mark);
    const auto [first, is_new] = frame.seen.emplace(key, place);
    if (!is_new)
      refuse(mark, fmt::format("key {} is given twice, first at {}",
                               join_key(path(), shown_text(key)), first->second));
    frame.key = key;
    frame.key_place = place;
    frame.has_key = true;
  }

  void open(const YAML::Mark& mark, const std::string& tag, ConfigNode::Kind kind) {
    refuse_tag(mark, tag);
    if (expects_key()) refuse(mark, "expected a key, got a map or a list");
    if (frames_.size() >= kDeepestConfig)
      refuse(mark, fmt::format("expected at most {} levels of nesting", kDeepestConfig));
    Frame frame;
    frame.node = new_node(mark, kind);
    frames_.push_back(std::move(frame));
  }

  void close() {
    ConfigNode done = std::move(frames_.back().node);
    frames_.pop_back();
    add(std::move(done));
  }

  void add(ConfigNode node) {
    if (frames_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == ConfigNode::Kind::kList) {
      frame.node.items.push_back(std::move(node));
    } else {
      frame.node.entries.push_back(
          {std::move(frame.key), std::move(frame.key_place), std::move(node)});
      frame.has_key = false;
    }
  }

  [[nodiscard]] std::string path() const {
    std::string path;
    for (size_t i = 0; i + 1 < frames_.size(); ++i) {
      const Frame& frame = frames_[i];
      path = join_key(path, frame.node.kind == ConfigNode::Kind::kList
                                ? std::to_string(frame.node.items.size())
                                : shown_text(frame.key));
    }
    return path;
  }

  std::string_view text_;
  const Origin& origin_;
  ConfigNode root_;
  std::vector<Frame> frames_;
  size_t nodes_ = 0;
  int documents_ = 0;
};

void check_bytes(std::string_view text, const Origin& origin) {
  if (text.size() > kLongestConfig)
    throw Error(ExitCode::kConfig, origin.name(),
                fmt::format("expected at most {} bytes, got {}", kLongestConfig, text.size()));
  if (const auto bad = find_bad_byte(text)) {
    const std::string what =
        bad->byte == 0 ? "a NUL byte" : fmt::format("byte 0x{:02x}", bad->byte);
    throw Error(ExitCode::kConfig, origin.at(bad->line, bad->column),
                "expected UTF-8 text, got " + what);
  }
}

// Throws Error and what the library throws.
ConfigNode build(std::string_view text, const Origin& origin) {
  check_bytes(text, origin);
  // A byte order mark is not counted by the library's positions.
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  TreeBuilder builder(text, origin);
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  while (parser.HandleNextDocument(builder)) {
  }
  return builder.take();
}

ConfigNode parse(std::string_view text, const Origin& origin) {
  try {
    return build(text, origin);
  } catch (const YAML::Exception& error) {
    throw Error(ExitCode::kConfig, error.mark.is_null() ? origin.name() : origin.at(error.mark),
                "expected YAML: " + error.msg);
  }
}

// What would close the brackets of a text, as if none of them were quoted.
std::string missing_brackets(std::string_view text) {
  std::string closing;
  for (const char c : text) {
    if (c == '[') closing += ']';
    if (c == '{') closing += '}';
    if (!closing.empty() && c == closing.back()) closing.pop_back();
  }
  std::ranges::reverse(closing);
  return closing;
}

bool is_yaml(const std::string& text, const Origin& origin) {
  try {
    static_cast<void>(build(text, origin));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

ConfigNode parse_yaml(std::string_view text, const std::string& name) {
  ConfigNode root = parse(text, Origin::file(name));
  if (root.kind == ConfigNode::Kind::kNull)
    throw Error(ExitCode::kConfig, name, "expected a map of keys, got an empty file");
  return root;
}

ConfigNode parse_value(std::string_view text, const std::string& place, const std::string& key) {
  const Origin origin = Origin::fixed(place);
  const auto refuse = [&](const std::string& message) {
    throw Error(ExitCode::kConfig, place, key + ": " + message);
  };
  const auto broken = [&](const std::string& reason) {
    refuse(fmt::format("expected a value in YAML, got {} ({})", shown_text(std::string(text)),
                       reason));
  };
  ConfigNode node;
  try {
    node = build(text, origin);
  } catch (const std::exception& error) {
    // Of a bracket that stays open builder and library say other things.
    const std::string missing = missing_brackets(text);
    if (!missing.empty() && is_yaml(std::string(text) + missing, origin))
      broken("a closing " + missing.substr(0, 1) + " is missing");
    const auto* library = dynamic_cast<const YAML::Exception*>(&error);
    if (library == nullptr) refuse(error.what());
    broken(library->msg);
  }
  node.place = place;
  return node;
}

ConfigNode read_yaml(const std::string& path) {
  std::error_code status;
  const auto kind = std::filesystem::status(path, status).type();
  if (kind == std::filesystem::file_type::not_found)
    throw Error(ExitCode::kBadInput, path, "expected a configuration file, found none");
  if (kind != std::filesystem::file_type::regular)
    throw Error(ExitCode::kBadInput, path, "expected a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ExitCode::kIo, path, "expected a readable file");
  // One byte more than allowed is enough to refuse the rest unread.
  std::string text(kLongestConfig + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (file.bad()) throw Error(ExitCode::kIo, path, "reading failed");
  if (text.size() > kLongestConfig)
    throw Error(ExitCode::kConfig, path,
                fmt::format("expected at most {} bytes, got more", kLongestConfig));
  return parse_yaml(text, path);
}

}  // namespace ink

#include "configs/schema/run_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "configs/schema/binder.h"
#include "configs/schema/describe.h"
#include "configs/schema/dump.h"
#include "configs/schema/scalar.h"
#include "configs/schema/validate.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/error.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCommandLine = "command line";
constexpr size_t kMostFiles = 64;

// Reads a file and what it is based on; `open_` is the chain from the run file down to here.
class BaseReader {
 public:
  ConfigNode read(const fs::path& path) {
    if (++files_ > kMostFiles)
      throw Error(ExitCode::kConfig, path.string(),
                  fmt::format("expected at most {} files through base:", kMostFiles));
    ConfigNode file = read_yaml(path.string());
    const ConfigNode bases = take_base(file);
    open_.push_back(fs::weakly_canonical(path));
    ConfigNode merged;
    merged.kind = ConfigNode::Kind::kMap;
    const std::vector<ConfigNode> single = {bases};
    for (const ConfigNode& base : bases.kind == ConfigNode::Kind::kList ? bases.items : single)
      if (base.kind != ConfigNode::Kind::kNull) merge_into(merged, read_base(path, base));
    open_.pop_back();
    merge_into(merged, std::move(file));
    return merged;
  }

 private:
  static ConfigNode take_base(ConfigNode& file) {
    ConfigNode base;
    const auto found = std::ranges::find(file.entries, "base", &NodeEntry::key);
    if (found == file.entries.end()) return base;
    base = std::move(found->value);
    file.entries.erase(found);
    if (base.kind == ConfigNode::Kind::kMap)
      refuse_value(base, "base", "a file or a list of files");
    return base;
  }

  ConfigNode read_base(const fs::path& from, const ConfigNode& base) {
    const fs::path path = (from.parent_path() / to_text(base, "base")).lexically_normal();
    if (!fs::exists(path))
      throw Error(ExitCode::kBadInput, base.place,
                  fmt::format("base: expected a file, found no {}", path.string()));
    if (std::ranges::find(open_, fs::weakly_canonical(path)) != open_.end())
      throw Error(ExitCode::kConfig, base.place,
                  fmt::format("base: {} includes itself", path.string()));
    return read(path);
  }

  std::vector<fs::path> open_;
  size_t files_ = 0;
};

[[noreturn]] void refuse_override(const std::string& message) {
  throw Error(ExitCode::kConfig, kCommandLine, message);
}

bool is_index(const std::string& part) {
  return !part.empty() && part.size() < 10 &&
         part.find_first_not_of("0123456789") == std::string::npos;
}

std::vector<std::string> split_key(const std::string& key) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= key.size();) {
    const size_t dot = std::min(key.find('.', at), key.size());
    parts.push_back(key.substr(at, dot - at));
    at = dot + 1;
  }
  return parts;
}

ConfigNode& list_item(ConfigNode& list, const std::string& part, const std::string& path) {
  const size_t size = list.items.size();
  const size_t index = is_index(part) ? std::stoul(part) : size + 1;
  if (index > size)
    refuse_override(
        fmt::format("{}: expected an element from 0 to {}, got {}", path, size, shown_text(part)));
  if (index == size) list.items.emplace_back().place = kCommandLine;
  return list.items[index];
}

// The child that `part` names, made where it is missing.
ConfigNode& descend(ConfigNode& node, const std::string& part, const std::string& path) {
  if (node.kind == ConfigNode::Kind::kNull && part == "0") node.kind = ConfigNode::Kind::kList;
  if (node.kind == ConfigNode::Kind::kList) return list_item(node, part, path);
  if (node.kind != ConfigNode::Kind::kMap) {
    node = ConfigNode{};
    node.kind = ConfigNode::Kind::kMap;
    node.place = kCommandLine;
  }
  if (ConfigNode* found = node.find(part)) return *found;
  ConfigNode child;
  child.place = kCommandLine;
  node.entries.push_back({part, kCommandLine, std::move(child)});
  return node.entries.back().value;
}

KeyTable run_keys() {
  KeyTable keys;
  for (const KeyRow& row : describe_run()) keys.push_back(row.key);
  return keys;
}

}  // namespace

void apply_override(ConfigNode& root, const std::string& override_text) {
  const size_t equals = override_text.find('=');
  if (equals == std::string::npos || equals == 0)
    refuse_override(fmt::format("expected key=value, got {}", shown_text(override_text)));
  const std::string key = override_text.substr(0, equals);
  const std::vector<std::string> parts = split_key(key);
  if (std::ranges::any_of(parts, &std::string::empty) || parts.size() > kDeepestConfig)
    refuse_override(fmt::format("expected a key such as optim.lr, got {}", shown_text(key)));
  if (parts[0] == "base") refuse_override("base can only be written in a file");
  ConfigNode value = parse_value(override_text.substr(equals + 1), kCommandLine, shown_text(key));
  ConfigNode* node = &root;
  std::string path;
  for (const std::string& part : parts) {
    node = &descend(*node, part, path);
    path = join_key(path, part);
  }
  *node = std::move(value);
}

ConfigNode read_merged(const std::string& path, std::span<const std::string> overrides) {
  ConfigNode root = BaseReader().read(path);
  for (const std::string& text : overrides) apply_override(root, text);
  return root;
}

LoadedRun read_run(const ConfigNode& merged) {
  LoadedRun run;
  bind(merged, run.options, run_keys(), run.places);
  return run;
}

LoadedRun load_run(const std::string& path, std::span<const std::string> overrides) {
  LoadedRun run = read_run(read_merged(path, overrides));
  if (run.options.checkpoint.dir.empty())
    run.options.checkpoint.dir = (fs::path("runs") / fs::path(path).stem()).string();
  validate(run.options, run.places);
  return run;
}

std::string dump_run(const RunOptions& options) { return emit_yaml(to_node(options)); }

}  // namespace ink

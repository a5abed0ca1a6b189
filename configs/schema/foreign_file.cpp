#include "configs/schema/foreign_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "configs/schema/dump.h"
#include "configs/schema/keys.h"
#include "configs/schema/yaml_reader.h"
#include "engine/core/error.h"

namespace ink {
namespace {

struct Row {
  std::string theirs, ours;
};

const ForeignKey* find_key(std::string_view name, std::string_view tool) {
  const ForeignKey* found = nullptr;
  for (const ForeignKey& key : foreign_keys()) {
    if (key.name != name) continue;
    if (found == nullptr || key.tool == tool) found = &key;
  }
  return found;
}

// Maps are walked: some tools nest what others write flat.
void collect(const ConfigNode& map, const std::string& above, std::string_view tool,
             std::vector<Row>& rows) {
  for (const NodeEntry& entry : map.entries) {
    const std::string name = join_key(above, entry.key);
    const ForeignKey* key = find_key(entry.key, tool);
    if (key == nullptr && entry.value.kind == ConfigNode::Kind::kMap) {
      collect(entry.value, name, tool, rows);
      continue;
    }
    const std::string ours = key == nullptr ? "no such key here" : std::string(key->ours);
    const bool later = key != nullptr && is_planned(key->ours);
    rows.push_back({fmt::format("{}: {}", shown_text(name), shown_text(emit_flow(entry.value))),
                    ours + (later ? " (not built yet)" : "")});
  }
}

}  // namespace

std::string translate_keys(const std::string& path, std::string_view tool) {
  const ConfigNode root = read_yaml(path);
  if (root.kind != ConfigNode::Kind::kMap)
    throw Error(ExitCode::kConfig, path, "expected keys and values, got " + root.shown());
  std::vector<Row> rows;
  collect(root, "", tool, rows);
  size_t width = 0;
  for (const Row& row : rows) width = std::max(width, row.theirs.size());
  std::string text;
  for (const Row& row : rows) text += fmt::format("{:<{}}  {}\n", row.theirs, width, row.ours);
  return text;
}

}  // namespace ink

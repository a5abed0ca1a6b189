#include "configs/schema/reference.h"

#include <fmt/format.h>

#include <algorithm>

#include "configs/schema/describe.h"

namespace ink {
namespace {

// `|` splits cells of a Markdown table.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.replace(at, 1, "\\|");
  return text;
}

std::string code(const std::string& text) { return text.empty() ? "" : "`" + cell(text) + "`"; }

std::string type_and_range(const KeyRow& row) {
  return row.range.empty() ? row.type : row.type + " " + row.range;
}

bool is_section(const KeyRow& row) {
  return row.depth == 0 && (row.type == "map" || row.type == "map of text");
}

constexpr const char* kOpening =
    R"(# The run file

<!-- Made from the field lists in configs/schema by `inkstone config doc --markdown`; a test compares the two. -->

A run is one YAML file. `inkstone config check RUN.yaml` prints it with every key filled in.

* `base: FILE` or `base: [FILE, ...]` reads other files first, relative to the file that names them. Later values win, maps
  are merged, lists are replaced, and `key: null` drops a value of a base.
* The command line has the last word: `inkstone train run.yaml optim.lr=1e-4 data.train.0.path=my.txt train.epochs=null`.
* Counts take `k`, `M`, `G`, `T` (powers of 1000): `4k` is 4000. Sizes take `8GB` (10^9 bytes each) or `512MiB` (2^20).
* Booleans are `true` and `false`; numbers are decimal and finite; a quoted value is always text.
* Unknown keys, keys given twice, anchors, aliases, merge keys, tags and several documents are errors that name line and
  column. At most 1 MiB, 64 levels and 100,000 values.
* Relative paths start at the folder in which `inkstone` runs.
)";

}  // namespace

std::string reference_text(const std::string& pattern) {
  const auto rows = describe_run();
  size_t key_width = 0, type_width = 0, fallback_width = 0;
  const auto is_shown = [&](const KeyRow& row) {
    return row.type != "map" && row.key.find(pattern) != std::string::npos;
  };
  for (const KeyRow& row : rows) {
    if (!is_shown(row)) continue;
    key_width = std::max(key_width, row.key.size());
    type_width = std::max(type_width, type_and_range(row).size());
    fallback_width = std::max(fallback_width, row.fallback.size());
  }
  std::string text;
  for (const KeyRow& row : rows)
    if (is_shown(row))
      text += fmt::format("{:<{}}  {:<{}}  {:<{}}  {}\n", row.key, key_width, type_and_range(row),
                          type_width, row.fallback, fallback_width, row.help);
  return text;
}

std::string reference_page() {
  std::string page = kOpening;
  for (const KeyRow& row : describe_run()) {
    if (is_section(row)) {
      page += fmt::format("\n## `{}`: {}\n", row.key, row.help);
      if (row.type == "map") page += "| key | type | default | meaning |\n|---|---|---|---|\n";
    } else {
      page += fmt::format("| `{}` | {} | {} | {} |\n", row.key, cell(type_and_range(row)),
                          code(row.fallback), cell(row.help));
    }
  }
  return page;
}

}  // namespace ink

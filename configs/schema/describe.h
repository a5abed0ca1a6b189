// A struct's field list as rows of text: what `config doc`, the reference page and the search for
// the nearest key are made from.
#pragma once

#include <string>
#include <vector>

namespace ink {

struct KeyRow {
  std::string key;       // `optim.lr`, `data.train[].path`
  std::string type;      // `number`, `fp32|bf16`, `list of text`; `map` for a struct
  std::string fallback;  // the default as YAML, or `unset`
  std::string range;     // `above 0`, or empty
  std::string help;
  int depth = 0;
};

// Every key of a run file, sections before their members.
std::vector<KeyRow> describe_run();

}  // namespace ink

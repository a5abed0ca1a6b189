// The strict reader: YAML text -> ConfigNode, refusing everything that a run file never needs.
//
// Checked before the library sees a byte: at most 1 MiB, no NUL, valid UTF-8. Checked while it
// reports events, so that nothing large is ever built: one document, no anchors, aliases, merge
// keys or tags, scalar keys given once, depth 64, 100,000 nodes. Every refusal is an Error of
// code 2.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "configs/schema/node.h"

namespace ink {

inline constexpr size_t kLongestConfig = size_t{1} << 20;
inline constexpr size_t kDeepestConfig = 64;
inline constexpr size_t kMostConfigNodes = 100'000;

// `name` opens every place: `run.yaml:7:3`. Empty text is an error.
ConfigNode parse_yaml(std::string_view text, const std::string& name);

// The value that a command-line override gives to `key`; every place is just `place`, and empty
// text is null.
ConfigNode parse_value(std::string_view text, const std::string& place, const std::string& key);

// A file; error 3 if it is absent or not a regular file.
ConfigNode read_yaml(const std::string& path);

}  // namespace ink

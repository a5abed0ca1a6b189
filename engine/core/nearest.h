// The known name nearest to a misspelt one, for error messages.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ink {

// Levenshtein distance: insertions, deletions and replacements of one byte.
[[nodiscard]] size_t edit_distance(std::string_view a, std::string_view b);

// Nothing when the best one shares too little with `word` (a distance above half its length, at
// least 2).
[[nodiscard]] std::optional<std::string> nearest_name(std::string_view word,
                                                      std::span<const std::string> names);

}  // namespace ink

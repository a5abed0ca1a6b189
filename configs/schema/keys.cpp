#include "configs/schema/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "configs/schema/node.h"
#include "engine/core/error.h"
#include "engine/core/nearest.h"

namespace ink {
namespace {

std::string_view last_part(std::string_view key) { return key.substr(key.rfind('.') + 1); }

std::string_view parent(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? std::string_view{} : key.substr(0, dot);
}

// `data.train.0.pth` -> `data.train[].pth`
std::string without_indices(std::string_view key) {
  std::string out;
  while (!key.empty()) {
    const size_t dot = std::min(key.find('.'), key.size());
    const std::string_view part = key.substr(0, dot);
    const bool is_index = part.find_first_not_of("0123456789") == std::string_view::npos;
    if (is_index && !out.empty()) {
      out += "[]";
    } else {
      out = join_key(out, std::string(part));
    }
    key.remove_prefix(std::min(dot + 1, key.size()));
  }
  return out;
}

std::string possessive(std::string_view tool) { return fmt::format("{}'s", tool); }

}  // namespace

bool is_planned(std::string_view key) {
  return std::ranges::any_of(planned_keys(), [&](std::string_view planned) {
    return key == planned || (key.starts_with(planned) && key[planned.size()] == '.');
  });
}

std::string nearest_key(const KeyTable& keys, const std::string& key) {
  // Longer names than any real one cannot win and would only cost time.
  constexpr size_t kLongestCompared = 100;
  const std::string wanted = without_indices(key).substr(0, kLongestCompared);
  std::string best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  const auto offer = [&](std::string_view candidate, std::string_view name, size_t penalty) {
    const size_t distance = edit_distance(last_part(wanted), name) + penalty;
    if (distance >= best_distance) return;
    best_distance = distance;
    best = candidate;
  };
  for (const std::string& candidate : keys)
    offer(candidate, last_part(candidate), parent(candidate) == parent(wanted) ? 0 : 1);
  for (const ForeignKey& foreign : foreign_keys())
    if (std::ranges::find(keys, foreign.ours) != keys.end()) offer(foreign.ours, foreign.name, 1);
  return best;
}

void refuse_key(const KeyTable& keys, const std::string& place, const std::string& key) {
  const std::string shown = shown_text(key);
  const std::string plain = without_indices(key);
  if (is_planned(plain)) throw Error(ExitCode::kConfig, place, shown + " is not built yet");
  for (const ForeignKey& foreign : foreign_keys()) {
    if (last_part(plain) != foreign.name) continue;
    throw Error(
        ExitCode::kConfig, place,
        fmt::format("{} is {}; here it is {}{}", shown, possessive(foreign.tool), foreign.ours,
                    is_planned(foreign.ours) ? ", which is not built yet" : ""));
  }
  throw Error(ExitCode::kConfig, place,
              fmt::format("unknown key {}; nearest: {}", shown, nearest_key(keys, key)));
}

}  // namespace ink

// A configuration of another tool, key by key, beside the names that say the same here.
#pragma once

#include <string>
#include <string_view>

namespace ink {

// One line per key: `learning_rate: 2e-4   optim.lr`. tool: whose meaning counts where two tools
// share a name. Nothing is converted: units and defaults differ, so values are for a person to
// copy.
[[nodiscard]] std::string translate_keys(const std::string& path, std::string_view tool);

}  // namespace ink

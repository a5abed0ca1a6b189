// Where a user's measurements are kept between runs.
#pragma once

#include <filesystem>

namespace ink {

// $XDG_CACHE_HOME/inkstone, ~/.cache/inkstone; empty where neither variable holds an absolute path.
[[nodiscard]] std::filesystem::path cache_directory();

}  // namespace ink

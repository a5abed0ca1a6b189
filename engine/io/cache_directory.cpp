#include "engine/io/cache_directory.h"

#include <cstdlib>

namespace ink {

std::filesystem::path cache_directory() {
  const auto of = [](const char* variable) {
    const char* value = std::getenv(variable);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto cache = of("XDG_CACHE_HOME"); cache.is_absolute()) return cache / "inkstone";
  if (const auto home = of("HOME"); home.is_absolute()) return home / ".cache" / "inkstone";
  return {};
}

}  // namespace ink

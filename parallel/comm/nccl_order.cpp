#include "parallel/comm/nccl_order.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

#include "engine/core/error.h"

namespace ink {
namespace {

// Empty where it is not set.
std::string in_environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

[[noreturn]] void refuse(const char* name, const std::string& got) {
  throw Error(
      ExitCode::kConfig, name,
      fmt::format("expected sums without NVLS beside train.deterministic, got '{}': switches "
                  "add in another order every time",
                  got),
      fmt::format("leave {} unset", name));
}

}  // namespace

void pin_nccl_order() {
  constexpr const char* kSwitch = "NCCL_NVLS_ENABLE";
  constexpr const char* kAlgorithms = "NCCL_ALGO";
  const std::string enabled = in_environment(kSwitch);
  if (!enabled.empty() && enabled != "0") refuse(kSwitch, enabled);
  const std::string wanted = in_environment(kAlgorithms);
  std::string lower = wanted;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower.find("nvls") != std::string::npos && lower.find('^') == std::string::npos)
    refuse(kAlgorithms, wanted);
  setenv(kSwitch, "0", 1);
}

}  // namespace ink

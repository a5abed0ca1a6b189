// Is there a card for a test? One that finds none is skipped, visibly. Everything else that goes
// wrong fails it: a card answers every call behind a kernel that failed with the same error, and
// such tests are not to look as if they had had no card.
#pragma once

#include <fmt/format.h>

#include <string>

#include "engine/tensor/devices.h"

namespace ink {

// Empty: there are so many. The program asks before its first kernel and remembers whether any is
// there.
inline std::string why_no_card(int wanted = 1) {
  static const DevicePlatform first = device_platform(Device::kCuda);
  if (first.count == 0) return first.problem.empty() ? "built without CUDA" : first.problem;
  const int count = device_platform(Device::kCuda).count;
  if (count < wanted && count > 0) return fmt::format("{} cards, {} are needed", count, wanted);
  return count == 0 ? "" : device_facts(Device::kCuda, 0).problem;
}

}  // namespace ink

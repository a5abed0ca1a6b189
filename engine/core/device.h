// Where a tensor lives and a kernel runs. A rank uses one device; its index is the Runtime's
// business.
#pragma once

#include <cstdint>
#include <string_view>

namespace ink {

enum class Device : uint8_t { kCpu, kCuda };
inline constexpr int kDeviceCount = 2;

[[nodiscard]] constexpr std::string_view name_of(Device device) {
  return device == Device::kCpu ? "cpu" : "cuda";
}

}  // namespace ink

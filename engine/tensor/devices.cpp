#include "engine/tensor/devices.h"

#include <array>

#include "engine/core/error.h"

namespace ink {
namespace {

constinit std::array<DeviceProbe, kDeviceCount> probes{};

}  // namespace

bool register_probe(Device device, DeviceProbe probe) {
  probes[static_cast<size_t>(device)] = probe;
  return true;
}

DevicePlatform device_platform(Device device) {
  const DeviceProbe& probe = probes[static_cast<size_t>(device)];
  if (probe.platform != nullptr) return probe.platform();
  return {.count = 0,
          .driver = "unknown",
          .runtime = "none",
          .problem = "this build has no CUDA backend"};
}

DeviceFacts device_facts(Device device, int ordinal) {
  const DeviceProbe& probe = probes[static_cast<size_t>(device)];
  CHECK(probe.facts != nullptr, "{} devices cannot be asked in this build", name_of(device));
  return probe.facts(ordinal);
}

}  // namespace ink

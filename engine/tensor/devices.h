// The accelerators of this machine, asked before anything is put on one: how many, what they are,
// and why there are none. launch decides with it where a run goes; nothing is allocated here.
#pragma once

#include <cstdint>
#include <string>

#include "engine/core/device.h"

namespace ink {

struct DevicePlatform {
  int count = 0;                // usable devices
  std::string driver, runtime;  // CUDA of the driver and of this build: "13.0", "none"
  std::string problem;          // why count is 0
};

struct DeviceFacts {
  std::string name;      // as the driver gives it
  std::string identity;  // tells this device from any other, equal in every process that sees it
  std::string slot;      // of the card in its machine (PCI): MIG instances of one card share it
  int capability = 0;    // 75, 80, 86, 89, 90 ...
  int multiprocessors = 0;
  int64_t memory = 0;   // bytes
  std::string problem;  // why it cannot be used; empty: it can
};

// count = 0 where this build has no such backend.
[[nodiscard]] DevicePlatform device_platform(Device device);
// InternalError where there is no such device.
[[nodiscard]] DeviceFacts device_facts(Device device, int ordinal);

// Backends register how to ask, before main.
struct DeviceProbe {
  DevicePlatform (*platform)() = nullptr;
  DeviceFacts (*facts)(int ordinal) = nullptr;
};
bool register_probe(Device device, DeviceProbe probe);

}  // namespace ink

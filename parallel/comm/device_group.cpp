#include "parallel/comm/device_group.h"

#include <array>

namespace ink {
namespace {

constinit std::array<DeviceTransport, kDeviceCount> transports{};

const DeviceTransport& of(Device device) { return transports[static_cast<size_t>(device)]; }

}  // namespace

bool register_device_transport(Device device, DeviceTransport transport) {
  transports[static_cast<size_t>(device)] = transport;
  return true;
}

std::string device_transport(Device device) {
  return of(device).describe == nullptr ? std::string() : of(device).describe();
}

std::unique_ptr<ProcessGroup> make_device_group(Runtime& runtime, ProcessGroup& host,
                                                const GroupOptions& options) {
  const Device device = runtime.device();
  if (device == Device::kCpu || host.size() == 1) return nullptr;
  if (of(device).make == nullptr) {
    throw Error(ExitCode::kConfig, "train.device",
                fmt::format("expected one rank on {}, got {}: this build has no NCCL",
                            name_of(device), host.size()),
                "build with INKSTONE_NCCL=ON, which needs nccl.h and libnccl");
  }
  return of(device).make(runtime, host, options);
}

}  // namespace ink

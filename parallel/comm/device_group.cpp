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

void require_device_transport(Device device, int ranks) {
  if (device == Device::kCpu || ranks == 1 || of(device).make != nullptr) return;
  throw Error(ExitCode::kConfig, "train.device",
              fmt::format("expected one rank on {}, got {}: this build has no NCCL",
                          name_of(device), ranks),
              "build with INKSTONE_NCCL=ON, which needs nccl.h and libnccl");
}

std::unique_ptr<ProcessGroup> make_device_group(Runtime& runtime, ProcessGroup& host,
                                                const GroupOptions& options) {
  const Device device = runtime.device();
  if (device == Device::kCpu || host.size() == 1) return nullptr;
  require_device_transport(device, host.size());
  return of(device).make(runtime, host, options);
}

}  // namespace ink

#include "parallel/comm/device_group.h"

#include <array>

namespace ink {
namespace {

constinit std::array<DeviceGroupFactory, kDeviceCount> factories{};

}  // namespace

bool register_device_group(Device device, DeviceGroupFactory factory) {
  factories[static_cast<size_t>(device)] = factory;
  return true;
}

std::unique_ptr<ProcessGroup> make_device_group(Runtime& runtime, ProcessGroup& host,
                                                const GroupOptions& options) {
  const Device device = runtime.device();
  if (device == Device::kCpu || host.size() == 1) return nullptr;
  const DeviceGroupFactory factory = factories[static_cast<size_t>(device)];
  if (factory == nullptr) {
    throw Error(ExitCode::kConfig, "train.device",
                fmt::format("expected one rank on {}, got {}: this build has no NCCL",
                            name_of(device), host.size()),
                "build with INKSTONE_NCCL=ON, which needs nccl.h and libnccl");
  }
  return factory(runtime, host, options);
}

}  // namespace ink

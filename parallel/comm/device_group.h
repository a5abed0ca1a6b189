// Which transport carries the tensors of a device: launch asks for it once per run.
//
// Transports register themselves before main, as kernels do; one that was not built is named by the
// build option that brings it.
#pragma once

#include <memory>
#include <string>

#include "parallel/comm/process_group.h"

namespace ink {

// Error(kConfig) where so many ranks cannot talk on that device in this build.
void require_device_transport(Device device, int ranks);

// A group of the ranks of `host`, for tensors of `runtime`; nullptr where `host` carries them
// itself: on the processor, and in a group of one. Collective.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_device_group(Runtime& runtime, ProcessGroup& host,
                                                              const GroupOptions& options = {});

// The library that carries the tensors of several ranks, "NCCL 2.28.9"; empty: none in this build.
[[nodiscard]] std::string device_transport(Device device);

struct DeviceTransport {
  std::unique_ptr<ProcessGroup> (*make)(Runtime& runtime, ProcessGroup& host,
                                        const GroupOptions& options) = nullptr;
  std::string (*describe)() = nullptr;
};
bool register_device_transport(Device device, DeviceTransport transport);

}  // namespace ink

// Which transport carries the tensors of a device: launch asks for it once per run.
//
// Transports register themselves before main, as kernels do; one that was not built is named by the
// build option that brings it.
#pragma once

#include <memory>

#include "parallel/comm/process_group.h"

namespace ink {

// A group of the ranks of `host`, for tensors of `runtime`; nullptr where `host` carries them
// itself: on the processor, and in a group of one. Collective.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_device_group(Runtime& runtime, ProcessGroup& host,
                                                              const GroupOptions& options = {});

using DeviceGroupFactory = std::unique_ptr<ProcessGroup> (*)(Runtime& runtime, ProcessGroup& host,
                                                             const GroupOptions& options);
bool register_device_group(Device device, DeviceGroupFactory factory);

}  // namespace ink

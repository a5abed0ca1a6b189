// What the machine does: short measurements, and which kernels a real training step runs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/tensor/runtime.h"
#include "launch/device_choice.h"

namespace ink {

// Bytes read plus bytes written per second, best of several: all threads of this rank copying, or
// the card within its memory.
[[nodiscard]] double copy_bandwidth(Runtime& runtime, const DeviceSeat& seat);

struct KernelUse {
  std::string slot;
  std::vector<std::string> candidates;     // by priority, highest first
  std::map<std::string, std::string> ran;  // compute type -> the candidate that ran; absent: none
  std::vector<std::string> refused;        // by a library, with its reason, in a line each
};
// Trains a tiny model for one step and continues a prompt with it, in f32 and in bf16, and tells
// which candidate of every slot ran on the seat's device.
[[nodiscard]] std::vector<KernelUse> kernels_in_use(const DeviceSeat& seat);

}  // namespace ink

// What the CUDA runtime says of driver, build and cards; shared by the backend's errors and by the
// probe that launch asks.
#pragma once

#include <cuda_runtime.h>

#include "engine/tensor/devices.h"

namespace ink {

[[nodiscard]] DevicePlatform cuda_platform();
[[nodiscard]] DeviceFacts facts_of(const cudaDeviceProp& properties);

}  // namespace ink

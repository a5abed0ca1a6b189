// The one wrapper around results of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace ink {

// Throws on anything but success: Error(kOutOfMemory) when memory ran out, Error(kConfig) when this
// build or this process cannot have the card, InternalError else. `what` names the call or the op.
void check_cuda(cudaError_t result, const std::string& what);

}  // namespace ink

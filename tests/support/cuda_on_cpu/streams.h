// Streams, events and graphs of the host implementation.
#pragma once

#include "tests/support/cuda_on_cpu/runtime_api.h"

namespace ink::cuda_on_cpu {

[[nodiscard]] bool capturing();  // any stream that this OS thread uses
[[nodiscard]] bool is_pinned(const void* pointer);
cudaError_t remember(cudaError_t error);  // for cudaGetLastError

}  // namespace ink::cuda_on_cpu

// A card that is there and that this process cannot have.
#pragma once

#include "tests/support/cuda_on_cpu/runtime_api.h"

namespace ink::cuda_on_cpu {

// What cudaSetDevice says from here on, as where another process has the card for itself.
void refuse_card(cudaError_t reason);

}  // namespace ink::cuda_on_cpu

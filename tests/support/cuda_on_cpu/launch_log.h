// Which launches a program made: one line "address threads shared_bytes capability" per distinct
// one, at the end of the program, in the file that EMULATED_LAUNCH_LOG names. tests/cuda/sass.py
// holds them against the registers of the compiled kernels and the limits of every card.
#pragma once

#include "tests/support/cuda_on_cpu/runtime_api.h"

namespace ink::cuda_on_cpu {

// capability: 75, 80 ... of the card that is emulated.
void log_launch(const cudaLaunchConfig_t& config, const void* kernel, int capability);

}  // namespace ink::cuda_on_cpu

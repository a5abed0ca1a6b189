// The part of the CUDA runtime and of the device language that the backend uses, for a machine
// without a card. Names and meanings are those of the CUDA documentation; this folder goes before
// the toolkit's on the include path.
#pragma once

#include "tests/support/cuda_on_cpu/device_language.h"
#include "tests/support/cuda_on_cpu/runtime_api.h"

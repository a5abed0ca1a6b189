// The part of cuBLASLt that the backend uses, for a machine without a card. Names and meanings are
// those of the cuBLAS documentation.
#pragma once

#include "tests/support/cuda_on_cpu/cublaslt_api.h"

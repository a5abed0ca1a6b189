// A gradient that is not a number, on purpose: of a loss that is 0/0 (train_step.h), and as a fault
// for tests (faults.h). One element is enough for the norm to see it.
#pragma once

#include "engine/nn/parameter.h"

namespace ink {

// Into the first gradient of the table, made where there is none.
void write_nan_gradient(const ParameterTable& table);

}  // namespace ink

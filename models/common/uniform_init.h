// Uniform initial weights in the place of normal ones, with each tensor's own standard deviation.
// Called before the table is filled.
#pragma once

#include "engine/nn/parameter.h"

namespace ink {

// Half-width of the interval around 0 for a standard deviation s. kExact: sqrt(3) * s, which has
// it. kInternEvo: sqrt(3 * s), of standard deviation sqrt(s) (InternEvo, initialize_tensor.py).
enum class UniformWidth : uint8_t { kExact, kInternEvo };

void draw_uniformly(ParameterTable& table, UniformWidth width);

}  // namespace ink

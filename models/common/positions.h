// Which angles a model rotates by: theta and the scale of positions, from its options and a length.
#pragma once

#include "configs/schema/model_options.h"
#include "engine/ops/rope.h"

namespace ink {

// length: what dynamic scaling sees (generation: the current total length; training with
// rope_scaling.in_training: data.max_length). 0: no scaling of any kind, the rule for training with
// a fixed theta.
[[nodiscard]] RopeOptions rope_options(const ModelOptions& model, int64_t length);

// The length training passes to Decoder::begin.
[[nodiscard]] int64_t training_rope_length(const ModelOptions& model, int64_t max_length);

}  // namespace ink

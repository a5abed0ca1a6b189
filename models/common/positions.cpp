#include "models/common/positions.h"

namespace ink {

RopeOptions rope_options(const ModelOptions& model, int64_t length) {
  RopeOptions options{.theta = model.rope_theta};
  if (length == 0) return options;
  switch (model.rope_scaling.type) {
    case RopeScalingType::kNone:
      break;
    case RopeScalingType::kLinear:
      options.position_scale = 1.0 / model.rope_scaling.factor;
      break;
    case RopeScalingType::kDynamic:
      options.theta = dynamic_ntk_theta(model.rope_theta, model.rope_scaling.factor, length,
                                        model.max_position_embeddings, model.head_dim);
      break;
  }
  return options;
}

int64_t training_rope_length(const ModelOptions& model, int64_t max_length) {
  // Linear scaling is part of what the weights were trained with; dynamic scaling is a matter of
  // generation.
  const bool scaled =
      model.rope_scaling.type == RopeScalingType::kLinear || model.rope_scaling.in_training;
  return scaled ? max_length : 0;
}

}  // namespace ink

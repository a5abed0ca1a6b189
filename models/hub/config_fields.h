// The parts of config.json that have several spellings or only one legal value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/schema/model_options.h"
#include "engine/io/json.h"

namespace ink {

struct RopeFields {
  double theta = 0;
  RopeScaling scaling;
};

// From rope_theta, rope_parameters (transformers 5) or rotary (InternLM1), and rope_scaling.
// Spellings that stand side by side must agree. max_position 0: the file does not say.
[[nodiscard]] RopeFields read_rope(const JsonReader& config, int64_t max_position);

// Fields that would change the arithmetic: each must be absent or have the value that changes
// nothing.
void check_fixed_fields(const JsonReader& config, Family family);

// Keys that neither this reader uses nor are known to be without effect.
[[nodiscard]] std::vector<std::string> unknown_fields(const JsonReader& config);

}  // namespace ink

#include "models/common/uniform_init.h"

#include <cmath>

namespace ink {

void draw_uniformly(ParameterTable& table, UniformWidth width) {
  for (const auto& parameter : table.all()) {
    InitRule& rule = parameter->init;
    if (rule.kind != InitRule::Kind::kNormal) continue;
    const float half =
        width == UniformWidth::kExact ? std::sqrt(3.0f) * rule.value : std::sqrt(3.0f * rule.value);
    rule = {InitRule::Kind::kUniform, half};
  }
}

}  // namespace ink

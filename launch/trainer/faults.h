// Deliberate faults of the `faults` section, for tests of what a run does when something breaks.
#pragma once

#include <functional>
#include <optional>

#include "configs/schema/train_options.h"
#include "engine/nn/parameter.h"

namespace ink {

// What to do to this rank's gradients at this step; empty = nothing.
[[nodiscard]] std::function<void()> gradient_fault(const std::optional<FaultSection>& faults,
                                                   int64_t step, int rank,
                                                   const ParameterTable& table);
void step_delay(const std::optional<FaultSection>& faults, int rank);

}  // namespace ink

// The faults that flip one bit, as memory that fails does: of a gradient behind its reduction, of
// a parameter behind its update. Either makes replicas differ. Called by the trainer.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "configs/schema/guard_options.h"
#include "optim/update/adamw.h"

namespace ink {

// Before training: Error(kConfig) when the rank, parameter, element or bit is not there.
void check_bit_flips(const std::optional<FaultSection>& faults, int ranks,
                     std::span<const OptimizerSlot> slots);

// What to do to this rank's summed gradients at this step; empty = nothing.
[[nodiscard]] std::function<void()> gradient_flip(const std::optional<FaultSection>& faults,
                                                  int64_t step, int rank,
                                                  std::span<const OptimizerSlot> slots);
// Of the master where the parameter has one: its rounding would be overwritten by the next update.
void flip_parameter(const std::optional<FaultSection>& faults, int64_t step, int rank,
                    std::span<const OptimizerSlot> slots);

}  // namespace ink

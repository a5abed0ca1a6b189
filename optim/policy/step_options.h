// From the `optim` section of a run to what the step kernels take.
#pragma once

#include <optional>

#include "configs/schema/compat_options.h"
#include "configs/schema/optim_options.h"
#include "engine/nn/parameter.h"
#include "engine/ops/step_state.h"

namespace ink {

// total_steps: T of the schedules.
[[nodiscard]] StepOptions step_options(const OptimSection& optim, int64_t total_steps,
                                       const Compat& compat = {});

// The entry of optim.groups that a parameter falls into: the first whose glob matches its name.
[[nodiscard]] std::optional<size_t> group_index(const OptimSection& optim,
                                                const Parameter& parameter);

// Rate and decay of one parameter. Norms and biases have no decay, but with compat.decay_all they
// have; its group overrides. lr_scale multiplies the scheduled rate.
struct ParameterPolicy {
  double weight_decay = 0, lr_scale = 1;
};
[[nodiscard]] ParameterPolicy parameter_policy(const OptimSection& optim,
                                               const Parameter& parameter,
                                               const Compat& compat = {});

// Error(kConfig) for a group that matches no parameter.
void check_groups(const OptimSection& optim, const ParameterTable& table);

}  // namespace ink

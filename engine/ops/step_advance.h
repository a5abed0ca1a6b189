// What advance_step decides, on either device: the formulas of engine/ops/step_state.h. Kernel
// files include it, nothing else does.
#pragma once

#include <cmath>

#include "engine/ops/step_state.h"

namespace ink {

// The counter is also reset by a back-off, so that scattered overflows do not each halve the scale;
// ScalerRule::kInternEvo leaves it used up.
INK_HOST_DEVICE inline void back_off(const LossScaleOptions& options, StepState& state) {
  state.clean_steps = 0;
  if (!options.enabled) return;
  if (state.hysteresis_left > 0) --state.hysteresis_left;
  if (state.hysteresis_left > 0) return;
  if (options.rule == ScalerRule::kOwn) state.hysteresis_left = options.hysteresis;
  state.loss_scale = std::fmax(options.minimum, state.loss_scale * options.backoff);
}

INK_HOST_DEVICE inline void grow(const LossScaleOptions& options, StepState& state) {
  if (!options.enabled || ++state.clean_steps < options.growth_interval) return;
  state.clean_steps = 0;
  state.hysteresis_left = options.hysteresis;
  state.loss_scale = std::fmin(options.maximum, state.loss_scale * options.growth);
}

INK_HOST_DEVICE inline void prepare_update(const StepOptions& options, StepState& state) {
  const int64_t t = state.updates++;
  state.lr = learning_rate(options.schedule, t);
  const double excess = options.clip_norm > 0 ? (state.grad_norm + 1e-6) / options.clip_norm : 1.0;
  state.grad_factor = options.unchecked ? 1.0 : 1 / (state.loss_scale * std::fmax(1.0, excess));
  state.beta2 = options.beta2;
  if (options.beta2_decay > 0)
    state.beta2 = std::fmax(options.beta2,
                            1 - std::pow(static_cast<double>(state.updates), -options.beta2_decay));
  state.bias1 = 1 - std::pow(options.beta1, static_cast<double>(state.updates));
  state.bias2 = 1 - std::pow(state.beta2, static_cast<double>(state.updates));
}

INK_HOST_DEVICE inline bool is_overflow(const LossScaleOptions& options, double sum_squares) {
  const bool infinite = std::isinf(sum_squares);
  return infinite || (options.rule == ScalerRule::kOwn && std::isnan(sum_squares));
}

// all: sum of squares over all parameters; own: over those whose norm this is.
INK_HOST_DEVICE inline void advance(double all, double own, const StepOptions& options,
                                    StepState& state) {
  if (options.unchecked) all = own = 0;
  state.grad_norm = std::sqrt(own) / state.loss_scale;
  state.skip = std::isfinite(all) && !options.veto ? 0 : 1;
  if (state.skip) {
    ++state.skipped;
    ++state.skipped_in_a_row;
    if (is_overflow(options.loss_scale, all)) {
      back_off(options.loss_scale, state);
    } else if (!std::isfinite(all)) {
      grow(options.loss_scale, state);
    }
  } else {
    state.skipped_in_a_row = 0;
    prepare_update(options, state);
    grow(options.loss_scale, state);
  }
}

}  // namespace ink

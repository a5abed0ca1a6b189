// The optimizer's clock and the norm it reads.
#include "engine/ops/step_state.h"

#include <cstring>

#include "engine/kernels/cpu/block_sum.h"

namespace ink {
namespace {

// The counter is also reset by a back-off, so that scattered overflows do not each halve the scale.
void back_off(const LossScaleOptions& options, StepState& state) {
  state.clean_steps = 0;
  if (!options.enabled || --state.hysteresis_left > 0) return;
  state.hysteresis_left = options.hysteresis;
  state.loss_scale = std::max(options.minimum, state.loss_scale * options.backoff);
}

void grow(const LossScaleOptions& options, StepState& state) {
  if (!options.enabled || ++state.clean_steps < options.growth_interval) return;
  state.clean_steps = 0;
  state.hysteresis_left = options.hysteresis;
  state.loss_scale = std::min(options.maximum, state.loss_scale * options.growth);
}

void prepare_update(const StepOptions& options, StepState& state) {
  const int64_t t = state.updates++;
  state.lr = learning_rate(options.schedule, t);
  const double excess = options.clip_norm > 0 ? (state.grad_norm + 1e-6) / options.clip_norm : 1.0;
  state.grad_factor = 1 / (state.loss_scale * std::max(1.0, excess));
  state.beta2 = options.beta2;
  if (options.beta2_decay > 0)
    state.beta2 = std::max(options.beta2,
                           1 - std::pow(static_cast<double>(state.updates), -options.beta2_decay));
  state.bias1 = 1 - std::pow(options.beta1, static_cast<double>(state.updates));
  state.bias2 = 1 - std::pow(state.beta2, static_cast<double>(state.updates));
}

void advance(const Tensor& sum_squares, const StepOptions& options, Tensor& tensor) {
  CHECK_OP("advance_step", tensor.bytes() == static_cast<int64_t>(sizeof(StepState)),
           "state has {} bytes, StepState has {}", tensor.bytes(), sizeof(StepState));
  StepState state;
  std::memcpy(&state, tensor.raw(), sizeof state);
  state.grad_norm = std::sqrt(*sum_squares.data<double>()) / state.loss_scale;
  state.skip = std::isfinite(state.grad_norm) ? 0 : 1;
  if (state.skip) {
    ++state.skipped;
    ++state.skipped_in_a_row;
    back_off(options.loss_scale, state);
  } else {
    state.skipped_in_a_row = 0;
    prepare_update(options, state);
    grow(options.loss_scale, state);
  }
  std::memcpy(tensor.raw(), &state, sizeof state);
}

template <class Isa>
void squares(const Tensor& x, WriteMode mode, Tensor& sum) {
  const double total = block_sum<Isa>(x, [](double value) { return value * value; });
  double& result = *sum.data<double>();
  result = mode == WriteMode::kAccumulate ? result + total : total;
}

REGISTER_KERNEL(advance_step, kCpu, plain, advance);
REGISTER_KERNEL(sum_squares, kCpu, plain, squares<Plain>);
REGISTER_KERNEL(sum_squares, kCpu, avx2, squares<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(sum_squares, kCpu, avx512, squares<Avx512>, .priority = 20, .supports = on_avx512);

}  // namespace
}  // namespace ink

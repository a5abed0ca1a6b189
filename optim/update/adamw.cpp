#include "optim/update/adamw.h"

#include <cmath>
#include <cstddef>

#include "engine/autograd/backward.h"
#include "optim/policy/step_options.h"

namespace ink {

AdamW::AdamW(Runtime& runtime, const ParameterTable& table, const OptimSection& optim,
             int64_t total_steps, uint64_t seed, const Compat& compat)
    : runtime_(runtime), options_(step_options(optim, total_steps, compat)) {
  check_groups(optim, table);
  const Scoped tag(runtime.tag, MemoryTag::kOptimizer);
  const DType moment = optim.state_dtype == StateDtype::kF32 ? DType::kF32 : DType::kBF16;
  for (const auto& parameter : table.all()) {
    if (!parameter->tied_to.empty()) continue;
    all_mastered_ &= !parameter->frozen;
    if (parameter->frozen) continue;
    const ParameterPolicy policy = parameter_policy(optim, *parameter, compat);
    const Shape& shape = parameter->local_shape;
    OptimizerSlot slot{.parameter = parameter.get(),
                       .options = {.beta1 = optim.betas[0],
                                   .eps = optim.eps,
                                   .weight_decay = policy.weight_decay,
                                   .lr_scale = policy.lr_scale,
                                   .key = philox_key(seed, "round." + parameter->name)},
                       .m = zeros(runtime, shape, moment),
                       .v = zeros(runtime, shape, moment)};
    const DType stored = parameter->value().dtype();
    options_.loss_scale.enabled |=
        stored == DType::kF16 || (compat.bf16_loss_scale && stored == DType::kBF16);
    if (stored == DType::kF16 || (moment == DType::kF32 && stored != DType::kF32))
      slot.master = Tensor(runtime, shape, DType::kF32);
    all_mastered_ &= slot.master.defined();
    slots_.push_back(std::move(slot));
  }
  const LossScaleOptions& scale = options_.loss_scale;
  state_ = step_state_tensor(runtime, {.hysteresis_left = scale.hysteresis,
                                       .loss_scale = scale.enabled ? scale.initial : 1.0,
                                       .beta2 = options_.beta2});
  norm_ = Tensor(runtime, {}, DType::kF64);
  squares_ = zeros(runtime, {static_cast<int64_t>(slots_.size())}, DType::kF64);
  if (!compat.clip_per_group) return;
  std::vector<const Parameter*> parameters;
  for (const OptimizerSlot& slot : slots_) parameters.push_back(slot.parameter);
  groups_ = ink::norm_groups(optim, compat, parameters);
}

void AdamW::initialize_masters(uint64_t seed) {
  for (OptimizerSlot& slot : slots_) {
    if (!slot.master.defined()) continue;
    const std::vector<float> values = ParameterTable::initial_values(*slot.parameter, seed);
    runtime_.backend().copy_from_host(slot.master.raw(), values.data(), slot.master.bytes());
    Tensor value = slot.parameter->value();
    cast(runtime_.device(), slot.master, value);
  }
}

void AdamW::copy_masters_from_parameters() {
  for (OptimizerSlot& slot : slots_) {
    if (slot.master.defined()) cast(runtime_.device(), slot.parameter->value(), slot.master);
  }
}

void AdamW::begin(const GlobalBatch& batch) {
  runtime_.backend().copy_from_host(static_cast<char*>(state_.raw()) + offsetof(StepState, batch),
                                    &batch, sizeof batch);
}

void AdamW::step(Update update) {
  const Device device = runtime_.device();
  std::vector<Tensor> gradients;
  std::vector<AdamWItem> items;
  for (const OptimizerSlot& slot : slots_) {
    items.push_back(item_of(slot));
    gradients.push_back(items.back().grad);
  }
  if (looks_at_norm()) sum_squares_many(device, gradients, squares_, norm_);
  StepOptions options = options_;
  options.veto = update == Update::kNone;
  for (const NormGroup& group : groups_) update_group(group, gradients, items, options);
  advance_step(device, norm_, options, state_);
  if (groups_.empty()) adamw_update_many(device, items, state_);
  for (const OptimizerSlot& slot : slots_) slot.parameter->leaf()->has_grad = false;
}

// By a copy of the clock that advances on the group's norm, before the clock itself does.
void AdamW::update_group(const NormGroup& group, std::span<const Tensor> gradients,
                         std::span<const AdamWItem> items, const StepOptions& options) {
  if (group.members.empty()) return;
  std::vector<Tensor> own_gradients;
  std::vector<AdamWItem> own_items;
  for (const size_t member : group.members) {
    own_gradients.push_back(gradients[member]);
    own_items.push_back(items[member]);
  }
  const Device device = runtime_.device();
  const Scoped tag(runtime_.tag, MemoryTag::kWorkspace);
  Tensor sums(runtime_, {2}, DType::kF64), clock(runtime_, state_.shape(), state_.dtype());
  runtime_.backend().copy(sums.raw(), norm_.raw(), norm_.bytes());
  runtime_.backend().copy(clock.raw(), state_.raw(), state_.bytes());
  if (looks_at_norm()) {
    Tensor each(runtime_, {static_cast<int64_t>(own_gradients.size())}, DType::kF64);
    Tensor own = sums.flat(1, {});
    sum_squares_many(device, own_gradients, each, own);
  }
  advance_step(device, sums, options, clock);
  adamw_update_many(device, own_items, clock);
}

// No gradient is a gradient of zero: moments and decay go on.
AdamWItem AdamW::item_of(const OptimizerSlot& slot) {
  Leaf& leaf = *slot.parameter->leaf();
  if (!leaf.grad.defined())
    leaf.grad = Tensor(runtime_, leaf.value.shape(), leaf.grad_dtype, MemoryTag::kGradients);
  if (!leaf.has_grad) zero(leaf.grad);
  const Shape flat{leaf.value.numel()};
  return {.grad = leaf.grad.reshape(flat),
          .param = leaf.value.reshape(flat),
          .master = slot.master.defined() ? slot.master.reshape(flat) : Tensor(),
          .m = slot.m.reshape(flat),
          .v = slot.v.reshape(flat),
          .options = slot.options};
}

StepState AdamW::state() const { return read_step_state(state_); }

void AdamW::set_state(StepState state) {
  if (!options_.loss_scale.enabled) state.loss_scale = 1.0;  // saved by a run in f16
  runtime_.backend().copy_from_host(state_.raw(), &state, sizeof state);
}

std::string AdamW::first_nonfinite(std::span<const double> squares) const {
  for (size_t i = 0; i < squares.size(); ++i) {
    if (!std::isfinite(squares[i])) return slots_[i].parameter->name;
  }
  return {};
}

}  // namespace ink

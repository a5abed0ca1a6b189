#include "optim/policy/step_options.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>

namespace ink {
namespace {

bool matches(const OptimGroup& group, const Parameter& parameter) {
  return fnmatch(group.match.c_str(), parameter.name.c_str(), 0) == 0;
}

ScheduleShape shape_of(ScheduleType type) {
  switch (type) {
    case ScheduleType::kCosine:
      return ScheduleShape::kCosine;
    case ScheduleType::kLinear:
      return ScheduleShape::kLinear;
    case ScheduleType::kConstant:
      return ScheduleShape::kConstant;
    case ScheduleType::kWsd:
      return ScheduleShape::kWsd;
  }
  throw InternalError("unknown schedule");
}

DecayCurve decay_of(DecayShape decay) {
  switch (decay) {
    case DecayShape::kLinear:
      return DecayCurve::kLinear;
    case DecayShape::kCosine:
      return DecayCurve::kCosine;
    case DecayShape::kSqrt:
      return DecayCurve::kSqrt;
  }
  throw InternalError("unknown decay");
}

}  // namespace

StepOptions step_options(const OptimSection& optim, int64_t total_steps, const Compat& compat) {
  StepOptions options;
  options.schedule = {.shape = shape_of(optim.schedule),
                      .decay_shape = decay_of(optim.decay_shape),
                      .lr = optim.lr,
                      .min_lr = optim.min_lr,
                      .total = total_steps,
                      .warmup = optim.warmup_steps
                                    ? *optim.warmup_steps
                                    : static_cast<int64_t>(static_cast<double>(total_steps) *
                                                           optim.warmup_ratio.value_or(0.0)),
                      .decay = optim.decay_steps.value_or(0)};
  options.beta1 = optim.betas[0];
  options.beta2 = optim.betas[1];
  options.beta2_decay = optim.beta2_decay;
  options.clip_norm = optim.clip_norm;
  options.unchecked = compat.clip_zero && optim.clip_norm == 0;
  options.loss_scale.rule = compat.scaler ? ScalerRule::kInternEvo : ScalerRule::kOwn;
  return options;
}

std::optional<size_t> group_index(const OptimSection& optim, const Parameter& parameter) {
  for (size_t i = 0; i < optim.groups.size(); ++i) {
    if (matches(optim.groups[i], parameter)) return i;
  }
  return std::nullopt;
}

ParameterPolicy parameter_policy(const OptimSection& optim, const Parameter& parameter,
                                 const Compat& compat) {
  const bool decays = parameter.decay || compat.decay_all;
  ParameterPolicy policy{.weight_decay = decays ? optim.weight_decay : 0.0};
  if (const auto index = group_index(optim, parameter)) {
    const OptimGroup& group = optim.groups[*index];
    if (group.lr) policy.lr_scale = *group.lr / optim.lr;
    if (group.weight_decay) policy.weight_decay = *group.weight_decay;
  }
  return policy;
}

void check_groups(const OptimSection& optim, const ParameterTable& table) {
  for (size_t i = 0; i < optim.groups.size(); ++i) {
    const bool used = std::any_of(table.all().begin(), table.all().end(),
                                  [&](const auto& p) { return matches(optim.groups[i], *p); });
    if (used) continue;
    throw Error(
        ExitCode::kConfig, fmt::format("optim.groups.{}.match", i),
        fmt::format("expected a glob over parameter names, got {}, which matches none",
                    optim.groups[i].match),
        fmt::format("names look like {}", table.all().empty() ? "" : table.all().back()->name));
  }
}

}  // namespace ink

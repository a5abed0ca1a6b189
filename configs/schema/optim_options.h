// The `optim` section of a run file: update rule, schedule, groups.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/field.h"

namespace ink {

enum class OptimizerType { kAdamW };

template <>
struct Choices<OptimizerType> {
  static constexpr Choice<OptimizerType> kBuilt[] = {{"adamw", OptimizerType::kAdamW}};
  static constexpr std::string_view kPlanned[] = {"adamw8bit", "paged_adamw", "muon", "sgd"};
};

enum class ScheduleType { kCosine, kLinear, kConstant, kWsd };

template <>
struct Choices<ScheduleType> {
  static constexpr Choice<ScheduleType> kBuilt[] = {{"cosine", ScheduleType::kCosine},
                                                    {"linear", ScheduleType::kLinear},
                                                    {"constant", ScheduleType::kConstant},
                                                    {"wsd", ScheduleType::kWsd}};
};

// Shape of the last part of wsd, over x from 0 to 1: 1-x, (1+cos(pi x))/2, 1-sqrt(x).
enum class DecayShape { kLinear, kCosine, kSqrt };

template <>
struct Choices<DecayShape> {
  static constexpr Choice<DecayShape> kBuilt[] = {{"linear", DecayShape::kLinear},
                                                  {"cosine", DecayShape::kCosine},
                                                  {"sqrt", DecayShape::kSqrt}};
};

// Type of the moments, or of gradients.
enum class StateDtype { kF32, kBf16 };

template <>
struct Choices<StateDtype> {
  static constexpr Choice<StateDtype> kBuilt[] = {{"fp32", StateDtype::kF32},
                                                  {"bf16", StateDtype::kBf16}};
};

struct OptimGroup {
  std::string match;
  std::optional<double> lr, weight_decay;

  template <class V>
  void fields(V& v) {
    v.field("match", match, "glob over global parameter names, such as *.attention.*");
    v.field("lr", lr, "peak learning rate of the group; unset = optim.lr", at_least(0));
    v.field("weight_decay", weight_decay, "unset = the rule for ungrouped parameters", at_least(0));
  }
  friend bool operator==(const OptimGroup&, const OptimGroup&) = default;
};

struct OptimSection {
  OptimizerType type = OptimizerType::kAdamW;
  double lr = 3e-4;
  double min_lr = 0;
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;
  double beta2_decay = 0;
  ScheduleType schedule = ScheduleType::kCosine;
  std::optional<double> warmup_ratio;
  std::optional<int64_t> warmup_steps;
  std::optional<int64_t> decay_steps;
  DecayShape decay_shape = DecayShape::kLinear;
  StateDtype state_dtype = StateDtype::kF32;
  StateDtype grad_dtype = StateDtype::kF32;
  std::vector<OptimGroup> groups;

  template <class V>
  void fields(V& v) {
    v.field("type", type, "update rule");
    v.field("lr", lr, "peak learning rate", above(0));
    v.field("min_lr", min_lr, "learning rate at the end of the schedule", at_least(0));
    v.field("betas", betas, "decay of the two moments", below(0, 1));
    v.field("eps", eps, "added to the root of the second moment", above(0));
    v.field("weight_decay", weight_decay, "decoupled; norms and biases have none unless grouped",
            at_least(0));
    v.field("clip_norm", clip_norm, "limit of the global gradient norm; 0 = no clipping",
            at_least(0));
    v.field("beta2_decay", beta2_decay, "c > 0: beta2 = max(betas[1], 1 - step^-c); 0 = constant",
            at_least(0));
    v.field("schedule", schedule, "learning rate after warm-up");
    v.field("warmup_ratio", warmup_ratio,
            "share of the steps; this or warmup_steps; neither = no warm-up", below(0, 1));
    v.field("warmup_steps", warmup_steps, "steps of linear warm-up", at_least(0));
    v.field("decay_steps", decay_steps, "last steps of wsd, in which lr falls to min_lr",
            at_least(1));
    v.field("decay_shape", decay_shape, "how lr falls in the last steps of wsd");
    v.field("state_dtype", state_dtype, "moments; bf16 is rounded stochastically");
    v.field("grad_dtype", grad_dtype,
            "gradients of matrices; bf16 for a model that computes in bf16, added up over at most "
            "64 micro-batches and ranks");
    v.field("groups", groups, "parameters with rates of their own; the first match counts");
  }
  friend bool operator==(const OptimSection&, const OptimSection&) = default;
};

}  // namespace ink

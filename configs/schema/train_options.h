// The `train` section of a run file: length, batch, device, guards.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "configs/schema/compat_options.h"
#include "configs/schema/field.h"
#include "configs/schema/guard_options.h"

namespace ink {

enum class TrainKind { kPretrain };

template <>
struct Choices<TrainKind> {
  static constexpr Choice<TrainKind> kBuilt[] = {{"pretrain", TrainKind::kPretrain}};
  static constexpr std::string_view kPlanned[] = {"sft",  "reward", "dpo", "kto",
                                                  "orpo", "ppo",    "grpo"};
};

enum class RecomputeMode { kNone, kSelective, kFull };

template <>
struct Choices<RecomputeMode> {
  static constexpr Choice<RecomputeMode> kBuilt[] = {{"none", RecomputeMode::kNone},
                                                     {"selective", RecomputeMode::kSelective},
                                                     {"full", RecomputeMode::kFull}};
};

enum class DeviceChoice { kAuto, kCpu, kCuda };

template <>
struct Choices<DeviceChoice> {
  static constexpr Choice<DeviceChoice> kBuilt[] = {
      {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};
};

// In units of the global batch: min(start + increment * floor(batches / every), global batch).
struct BatchRamp {
  int64_t start = 1, increment = 1, every = 1;

  template <class V>
  void fields(V& v) {
    v.field("start", start, "packs of the first global batch", at_least(1));
    v.field("increment", increment, "packs added each time", at_least(1));
    v.field("every", every, "global batches between two additions", at_least(1));
  }
  friend bool operator==(const BatchRamp&, const BatchRamp&) = default;
};

struct TrainSection {
  TrainKind kind = TrainKind::kPretrain;
  std::optional<int64_t> steps;
  std::optional<double> epochs;
  int64_t micro_batch_size = 1;
  std::optional<int64_t> accumulation, global_batch_size, global_batch_tokens;
  std::optional<BatchRamp> batch_ramp;
  std::vector<StepRange> skip_steps;
  RecomputeMode recompute = RecomputeMode::kSelective;
  std::optional<Bytes> memory_limit;
  int64_t seed = 42;
  DeviceChoice device = DeviceChoice::kAuto;
  bool deterministic = false;
  bool cuda_graph = true;
  std::optional<int64_t> eval_every, eval_batches;
  std::optional<double> max_hours;
  double label_smoothing = 0;
  double z_loss = 0;
  int64_t max_skipped = 20;
  std::optional<LossWatchdogOptions> loss_watchdog;
  std::optional<int64_t> self_check_every;
  Compat compat;

  template <class V>
  void fields(V& v) {
    v.field("kind", kind, "what is trained");
    v.field("steps", steps, "optimizer steps of the run, T of the schedules; this or epochs",
            at_least(1));
    v.field("epochs", epochs, "passes over the data; T = ceil(epochs * packs / global batch)",
            above(0));
    v.field("micro_batch_size", micro_batch_size,
            "packs (samples, without data.packing) of one micro-batch on one rank", at_least(1));
    v.field("accumulation", accumulation,
            "micro-batches per step and rank; this, global_batch_size or global_batch_tokens; "
            "none of them = 1",
            at_least(1));
    v.field("global_batch_size", global_batch_size, "packs of one step over all ranks",
            at_least(1));
    v.field("global_batch_tokens", global_batch_tokens,
            "global_batch_size * data.max_length, given in tokens", at_least(1));
    v.field("batch_ramp", batch_ramp, "grow the global batch from a smaller one; unset = no ramp");
    v.field("skip_steps", skip_steps, "steps whose data is consumed and not trained: [[2, 5], 10]");
    v.field("recompute", recompute, "activations that backward computes again");
    v.field("memory_limit", memory_limit, "tensor memory per rank; past it the run ends with 7",
            at_least(1));
    v.field("seed", seed, "of initial weights, order of packs and dropout", at_least(0));
    v.field("device", device, "auto = cuda where a card is usable, else cpu");
    v.field("deterministic", deterministic, "bit-exact repeats on CUDA; always so on CPU");
    v.field("cuda_graph", cuda_graph,
            "launch whole micro-batches as CUDA graphs; keeps gradients in memory between steps");
    v.field("eval_every", eval_every, "steps; unset = at step 0 and at the end only", at_least(1));
    v.field("eval_batches", eval_batches, "global batches per evaluation; unset = all",
            at_least(1));
    v.field("max_hours", max_hours, "stop early, save and leave with 75", above(0));
    v.field("label_smoothing", label_smoothing, "mass given to the whole vocabulary", below(0, 1));
    v.field("z_loss", z_loss, "weight of the mean of log(Z)^2", at_least(0));
    v.field("max_skipped", max_skipped,
            "stop with 5 after this many skipped steps in a row: non-finite gradients, and spikes "
            "of loss_watchdog",
            at_least(1));
    v.field("loss_watchdog", loss_watchdog,
            "what to do when the loss jumps; {} = warn; unset = nobody watches");
    v.field("self_check_every", self_check_every,
            "steps between two self-checks (gradient norm, replicas), the first step included; "
            "unset = none, or 100 with --self-check",
            at_least(1));
    v.field("compat", compat, "rules of InternEvo: `internevo` for all, or a map of switches");
  }
  friend bool operator==(const TrainSection&, const TrainSection&) = default;
};

}  // namespace ink

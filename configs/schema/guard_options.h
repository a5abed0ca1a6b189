// Guards of a training run against bad numbers, and the deliberate faults that show that they work:
// parts of the `train` section, and the `faults` section.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "configs/schema/field.h"

namespace ink {

enum class SpikeAction { kWarn, kSkip, kStop, kRollback };

template <>
struct Choices<SpikeAction> {
  static constexpr Choice<SpikeAction> kBuilt[] = {{"warn", SpikeAction::kWarn},
                                                   {"skip", SpikeAction::kSkip},
                                                   {"stop", SpikeAction::kStop},
                                                   {"rollback", SpikeAction::kRollback}};
};

// A step is a spike when its loss is above factor * the median of the `window` losses before it.
struct LossWatchdogOptions {
  double factor = 2;
  int64_t window = 32;
  int64_t patience = 1;
  SpikeAction action = SpikeAction::kWarn;
  int64_t max_rollbacks = 3;

  template <class V>
  void fields(V& v) {
    v.field("factor", factor, "a loss above this times the reference is a spike", above(1));
    v.field("window", window,
            "steps before this one whose median loss is the reference; as many go unwatched",
            between(1, 10'000));
    v.field("patience", patience, "spikes in a row from which on the action is taken; all warn",
            at_least(1));
    v.field("action", action,
            "skip = make no update, and count it in train.max_skipped; stop = end with 5; "
            "rollback = go back to the last save before the spike, then pass over the data of it");
    v.field("max_rollbacks", max_rollbacks, "end with 5 at the spike after so many rollbacks",
            at_least(1));
  }
  friend bool operator==(const LossWatchdogOptions&, const LossWatchdogOptions&) = default;
};

struct NanGradient {
  int64_t step = 1;
  int64_t rank = 0;

  template <class V>
  void fields(V& v) {
    v.field("step", step, "step whose gradient is spoilt", at_least(1));
    v.field("rank", rank, "rank that spoils its own", at_least(0));
  }
  friend bool operator==(const NanGradient&, const NanGradient&) = default;
};

// One bit of one element on one rank, as faulty memory flips it.
struct BitFlip {
  int64_t step = 1;
  int64_t rank = 0;
  std::optional<std::string> parameter;
  int64_t element = 0;
  int64_t bit = 12;

  template <class V>
  void fields(V& v) {
    v.field("step", step, "step in which the bit is flipped", at_least(1));
    v.field("rank", rank, "rank that flips it", at_least(0));
    v.field("parameter", parameter, "name of the parameter; unset = the last one");
    v.field("element", element, "number of the element", at_least(0));
    v.field("bit", bit, "number of the bit; 0 = the lowest", between(0, 31));
  }
  friend bool operator==(const BitFlip&, const BitFlip&) = default;
};

// Announced at start; absent in every ordinary run.
struct FaultSection {
  std::optional<NanGradient> nan_gradient;
  std::optional<BitFlip> flip_parameter_bit, flip_gradient_bit;
  std::optional<double> step_delay_ms;
  std::optional<int64_t> step_delay_rank;

  template <class V>
  void fields(V& v) {
    v.field("nan_gradient", nan_gradient, "write a NaN into one gradient");
    v.field("flip_parameter_bit", flip_parameter_bit,
            "flip one bit of a parameter (of its master, where it has one) after the update");
    v.field("flip_gradient_bit", flip_gradient_bit,
            "flip one bit of a gradient after it was summed over the ranks");
    v.field("step_delay_ms", step_delay_ms, "sleep at the end of every step, in milliseconds",
            at_least(0));
    v.field("step_delay_rank", step_delay_rank, "the one rank that sleeps; unset = all",
            at_least(0));
  }
  friend bool operator==(const FaultSection&, const FaultSection&) = default;
};

}  // namespace ink

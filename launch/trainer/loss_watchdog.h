// Watches the loss of a run: is that of this step far above those before it?
//
// The reference is the (upper) median of the losses of the last `window` steps, bad ones included:
// fewer than half of them cannot move it, and a level that stays becomes the reference after half a
// window. Nothing is judged until the window is full, and losses that are not finite are left to
// the guard of the gradients. The trainer tells every rank's watchdog the loss of the global batch,
// which has the same bits on all of them, so all decide alike without a word.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "configs/schema/guard_options.h"

namespace ink {

// The spike that the run is in: from its first step above the limit to the first one below.
struct LossSpike {
  int64_t since = 0, last = 0;     // its first step, and the last one so far
  int64_t length = 0;              // steps that were judged
  double loss = 0, reference = 0;  // of the last of them
};

class LossWatchdog {
 public:
  // Without options it never finds anything.
  explicit LossWatchdog(const std::optional<LossWatchdogOptions>& options) : options_(options) {}

  // Once per step that has a loss, in order. True: the action of the options is due.
  bool judge(int64_t step, double loss);
  [[nodiscard]] const std::optional<LossSpike>& spike() const { return spike_; }
  [[nodiscard]] bool does(SpikeAction action) const {
    return options_ && options_->action == action;
  }

  // What a checkpoint keeps; null without options. restore() takes what an earlier run with other
  // options, or none, left. Error 3 with the place.
  [[nodiscard]] nlohmann::json state() const;
  void restore(const nlohmann::json& state, const std::string& place);

 private:
  [[nodiscard]] double median() const;

  std::optional<LossWatchdogOptions> options_;
  std::deque<double> losses_;
  std::optional<LossSpike> spike_;
};

}  // namespace ink

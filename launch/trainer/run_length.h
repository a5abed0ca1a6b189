// Steps and epochs of a run in numbers, of its plan alone: what its log, `train --dry-run` and
// `data stats` say.
#pragma once

#include <cstdint>

#include "launch/trainer/session.h"

namespace ink {

struct RunLength {
  int64_t packs_per_epoch = 0;  // or samples; NumPy's order leaves out what does not fill a batch
  int64_t steps_per_epoch = 0;
  int64_t tokens_per_step = 0;  // of full packs; without packing the mean over the data
  double epochs = 0;            // in all steps of the run
};
// Error(kBadInput) where NumPy's order has not the packs of one batch.
[[nodiscard]] RunLength run_length(const SessionPlan& plan);

}  // namespace ink

// What a step has to say about itself: rates, MFU, memory.
#pragma once

#include <optional>
#include <string>

#include "launch/report/run_log.h"
#include "launch/trainer/session.h"

namespace ink {

struct StepTimes {
  double seconds = 0, data_seconds = 0;
  double squared_lengths = 0;  // sum of len^2 over the documents of the global batch
  std::optional<double> peak;  // FLOP/s of one rank
};

// Everything but the run's totals.
[[nodiscard]] StepRow make_step_row(Session& session, const StepBatch& batch,
                                    const StepResult& result, const StepTimes& times);

// Sum of len^2 over the documents of a micro-batch, padding left out.
[[nodiscard]] double squared_lengths(const HostBatch& batch);

}  // namespace ink

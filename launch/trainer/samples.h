// Text that a run continues while it trains (log.samples), with the live weights.
#pragma once

#include <functional>
#include <vector>

#include "launch/report/run_log.h"
#include "launch/trainer/session.h"

namespace ink {

// Empty when the run asks for no samples. Changes nothing of the training state. Error 2 when there
// is no tokenizer.
[[nodiscard]] std::function<std::vector<SampleRow>(int64_t step)> sampler_of(Session& session);

}  // namespace ink

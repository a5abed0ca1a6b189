// Bytes of tensor memory that one rank will need, from shapes alone, and what a run could give up
// to need fewer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "configs/schema/run_options.h"
#include "engine/tensor/out_of_memory.h"
#include "launch/model_instance.h"

namespace ink {

// The most of each tag, and the most at one moment: one rank with one micro-batch a step makes its
// gradients while activations go, so these two are never there together.
struct MemoryEstimate {
  int64_t weights = 0, gradients = 0, optimizer = 0, activations = 0, workspace = 0;
  int64_t peak = 0;
  // What every step needs at once, known exactly.
  [[nodiscard]] int64_t states() const { return weights + gradients + optimizer; }
  [[nodiscard]] int64_t total() const { return peak; }
  [[nodiscard]] std::string table() const;
};
[[nodiscard]] MemoryEstimate estimate_memory(const ModelPlan& model, const RunOptions& run,
                                             int64_t data_parallel = 1);

// A line that names the settings with which the estimate stays within `available`, cheapest first:
// those that are enough alone, else all of them together, else that they are not enough. beyond:
// bytes that the run was seen to need past its estimate.
[[nodiscard]] std::string memory_levers(const ModelPlan& model, const RunOptions& run,
                                        int64_t available, int64_t beyond = 0);

// Runs f; memory that runs out in it is reported with the levers of this run as the hint.
template <class F>
void with_memory_levers(const ModelPlan& model, const RunOptions& run, F&& f) {
  try {
    std::forward<F>(f)();
  } catch (const OutOfMemory& out) {
    const int64_t needed = out.report().total + out.wanted();
    const int64_t beyond = std::max<int64_t>(0, needed - estimate_memory(model, run).total());
    throw Error(ExitCode::kOutOfMemory, out.place(), out.what(),
                memory_levers(model, run, out.available(), beyond));
  }
}

}  // namespace ink

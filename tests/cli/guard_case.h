// A run with one poisoned batch, for the guards of the loss: rows that the model soon knows by
// heart, and one of tokens it has never seen.
#pragma once

#include <string>

#include "tests/cli/inkstone_run.h"

namespace ink {

struct PoisonedRun {
  static constexpr int64_t kSteps = 30;
  // The poison comes in this step, whose packs are 50 and 51: preparation moves rows.
  static constexpr int64_t kStep = 26;

  explicit PoisonedRun(const Workplace& place);
  // train run.yaml --out OUT with the rows, their order kept, and what is given.
  [[nodiscard]] static std::vector<std::string> arguments(const std::string& out,
                                                          const std::vector<std::string>& more);
};

}  // namespace ink

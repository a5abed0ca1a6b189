// How often the loss watchdog sent a run back to an earlier save, and over which steps: their data
// is consumed and not trained on when the run comes by again. Kept by the trainer and in every save
// behind a rollback, so that a resumed run passes over the same steps.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/schema/train_options.h"

namespace ink {

struct Rollbacks {
  int64_t count = 0;
  std::vector<StepRange> passed_over;

  // What a checkpoint keeps. from_json: Error 3 with the place.
  [[nodiscard]] nlohmann::json to_json() const;
  [[nodiscard]] static Rollbacks from_json(const nlohmann::json& json, const std::string& place);
};

}  // namespace ink

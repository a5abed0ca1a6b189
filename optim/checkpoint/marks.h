// What a checkpoint says about its own worth, beside its tensors: the best evaluation of the run so
// far, and whether it was saved while the loss was out of hand. Part of the manifest's trainer
// section; absent in runs that ask for neither.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace ink {

// The lowest evaluation loss, and the step that was saved with it.
struct BestSave {
  int64_t step = 0;
  double eval_loss = 0;
};

struct CheckpointMarks {
  std::optional<BestSave> best;  // of the run when it was saved; of this checkpoint if step says so
  nlohmann::json loss_spike;     // what the run said about the spike; null: saved outside of one
};

// Written into, and read from, a trainer section. Error 3 with the place.
void set_marks(nlohmann::json& trainer, const CheckpointMarks& marks);
[[nodiscard]] CheckpointMarks marks_of(const nlohmann::json& trainer, const std::string& place);

}  // namespace ink

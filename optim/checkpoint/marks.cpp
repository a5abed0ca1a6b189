#include "optim/checkpoint/marks.h"

#include "engine/io/json.h"

namespace ink {

void set_marks(nlohmann::json& trainer, const CheckpointMarks& marks) {
  if (marks.best)
    trainer["best"] = {{"step", marks.best->step}, {"eval_loss", marks.best->eval_loss}};
  if (!marks.loss_spike.is_null()) trainer["loss_spike"] = marks.loss_spike;
}

CheckpointMarks marks_of(const nlohmann::json& trainer, const std::string& place) {
  const JsonReader reader(trainer, place, "trainer");
  CheckpointMarks marks;
  if (reader.has("best")) {
    const JsonReader best = reader.object("best");
    marks.best = {.step = best.integer("step", 0), .eval_loss = best.number("eval_loss")};
  }
  if (reader.has("loss_spike")) marks.loss_spike = reader.at("loss_spike");
  return marks;
}

}  // namespace ink

#include "launch/trainer/checkpoint_keeper.h"

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "launch/kernel_choices.h"

namespace ink {
namespace {

// Everything of a run that is not a tensor.
nlohmann::json trainer_state(Session& session, const RunRecord& record) {
  const RunCounters& counters = record.counters;
  const SessionPlan& plan = session.plan();
  nlohmann::json state{{"step", counters.step},
                       {"tokens", counters.tokens},
                       {"trained_tokens", counters.trained},
                       {"consumed_tokens", counters.consumed},
                       {"compat", switches_of(plan.run.train.compat)},
                       {"total_steps", plan.total_steps},
                       {"optimizer", to_json(session.optimizer().state())},
                       {"sampler", record.sampler.to_json()},
                       {"data", plan.data.identity()},
                       {"config", dump_run(plan.run)}};
  if (nlohmann::json choices = kernel_choices(session.runtime()); !choices.is_null())
    state["kernels"] = std::move(choices);
  if (!record.loss_watchdog.is_null()) state["loss_watchdog"] = record.loss_watchdog;
  if (!record.rollbacks.is_null()) state["rollbacks"] = record.rollbacks;
  set_marks(state, record.marks);
  return state;
}

std::string name_of_step(int64_t step) { return step < 0 ? "none" : fmt::format("step-{}", step); }

int64_t best_step(const CheckpointMarks& marks) { return marks.best ? marks.best->step : -1; }

}  // namespace

WriterInfo writer_info(const SessionPlan& plan, std::string version) {
  return {.version = std::move(version),
          .instruction_set = instruction_set(),
          .device = plan.seat.card
                        ? fmt::format("{}, sm_{}", plan.seat.card->name, plan.seat.card->capability)
                        : std::string(name_of(plan.seat.device)),
          .libraries = plan.seat.libraries(),
          .threads = thread_count(),
          .layout = fmt::format("dp{}", plan.mesh.data)};
}

CheckpointKeeper::CheckpointKeeper(Session& session, RunLog* log, std::string run_id,
                                   std::string version, WriteHf write_hf)
    : session_(session),
      log_(log),
      run_id_(std::move(run_id)),
      version_(std::move(version)),
      write_hf_(std::move(write_hf)) {}

void CheckpointKeeper::resumed_at(int64_t step, const CheckpointMarks& marks,
                                  const nlohmann::json& rollbacks) {
  saved_step_ = step;
  saved_marks_ = marks;
  saved_rollbacks_ = rollbacks;
  if (marks.loss_spike.is_null()) good_step_ = step;
}

void CheckpointKeeper::save(const RunRecord& record) {
  if (saved_step_ != record.counters.step) write(record, false);
}

// What this step was saved with may lack hf/, the mark of an evaluation that came later, or the
// rollback that led back to it.
void CheckpointKeeper::save_last(const RunRecord& record) {
  const bool wants_hf = write_hf_ && session_.plan().run.checkpoint.hf != HfExport::kNever;
  if (saved_step_ != record.counters.step || (wants_hf && !saved_hf_) ||
      best_step(saved_marks_) != best_step(record.marks) || saved_rollbacks_ != record.rollbacks)
    write(record, true);
  tell(saver_.wait());
  session_.world().barrier();
}

void CheckpointKeeper::write(const RunRecord& record, bool last) {
  const int64_t step = record.counters.step;
  const SessionPlan& plan = session_.plan();
  const CheckpointSection& options = plan.run.checkpoint;
  tell(saver_.wait());
  saved_step_ = step;
  saved_marks_ = record.marks;
  saved_rollbacks_ = record.rollbacks;
  if (record.marks.loss_spike.is_null()) good_step_ = step;
  saved_hf_ =
      write_hf_ && (options.hf == HfExport::kAlways || (last && options.hf == HfExport::kLast));
  if (session_.world().rank() != 0) return;
  SaveOptions save{.directory = options.dir,
                   .run_id = run_id_,
                   .writer = writer_info(plan, version_),
                   .keep = options.keep};
  if (record.marks.best) save.best = record.marks.best->step;
  if (saved_hf_) save.write_hf = write_hf_;
  const std::vector<StateTensor> tensors =
      state_tensors(session_.model().parameters(), session_.optimizer());
  Snapshot snapshot = take_snapshot(step, trainer_state(session_, record), tensors);
  if (options.async && !last) {
    saver_.start(std::move(snapshot), std::move(save));
  } else {
    tell(save_checkpoint(snapshot, save));
  }
}

void CheckpointKeeper::poll() { tell(saver_.poll()); }

void CheckpointKeeper::tell(const std::optional<SaveReport>& report) {
  if (!report || log_ == nullptr) return;
  log_->checkpoint({.step = report->step,
                    .path = report->path.string(),
                    .bytes = report->bytes,
                    .seconds = report->seconds,
                    .best = best_step(saved_marks_) == report->step,
                    .loss_spike = !saved_marks_.loss_spike.is_null()});
}

std::string CheckpointKeeper::last_saved() const { return name_of_step(saved_step_); }

std::string CheckpointKeeper::last_good() const { return name_of_step(good_step_); }

}  // namespace ink

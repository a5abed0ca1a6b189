// What the trainer does about bad numbers, once a step was read: the same on every rank.
#include <fmt/ranges.h>

#include "launch/trainer/trainer.h"

namespace ink {
namespace {

std::string place_of(const StepBatch& batch) { return fmt::format("step {}", batch.step); }

std::string last_good_line(const CheckpointKeeper& keeper) {
  return "last good checkpoint: " + keeper.last_good();
}

}  // namespace

void Trainer::watch_loss(const StepBatch& batch, const StepResult& result) {
  if (batch.skipped || result.empty) return;
  // With `skip` the step itself asked, before its update.
  const bool asked = watchdog_.does(SpikeAction::kSkip);
  const bool due = asked ? result.vetoed : watchdog_.judge(batch.step, result.loss);
  const std::optional<LossSpike>& spike = watchdog_.spike();
  if (!spike || spike->last != batch.step) return;
  const bool stops = due && watchdog_.does(SpikeAction::kStop);
  const bool returns = due && watchdog_.does(SpikeAction::kRollback);
  const SpikeRow row{.step = batch.step,
                     .loss = spike->loss,
                     .reference = spike->reference,
                     .length = spike->length,
                     .packs = batch.pack_ids,
                     .action = stops           ? "stop"
                               : returns       ? "rollback"
                               : result.vetoed ? "skip"
                                               : "warn"};
  if (log_ != nullptr) log_->spike(row);
  if (returns) rollback_ = {.first = spike->since, .last = spike->last};
  if (!stops) return;
  const LossWatchdogOptions& options = *session_.plan().run.train.loss_watchdog;
  throw Error(ExitCode::kNumerical, place_of(batch),
              fmt::format("expected a loss of at most {} (train.loss_watchdog: {} times the median "
                          "{}), got {}, {} steps in a row",
                          options.factor * row.reference, options.factor, row.reference, row.loss,
                          row.length),
              last_good_line(keeper_));
}

// A step that was issued behind the spike before that was read is read first: it may belong to it.
void Trainer::roll_back() {
  flush();
  const StepRange spike = *std::exchange(rollback_, std::nullopt);
  const std::string place = fmt::format("step {}", spike.last);
  const LossWatchdogOptions& options = *session_.plan().run.train.loss_watchdog;
  if (rollbacks_.count >= options.max_rollbacks)
    throw Error(ExitCode::kNumerical, place,
                fmt::format("expected no loss spike after {} rollbacks "
                            "(train.loss_watchdog.max_rollbacks), got one",
                            rollbacks_.count),
                last_good_line(keeper_));
  keeper_.settle();
  const OpenedCheckpoint opened = options_.good_save(spike.first);
  if (opened.path.empty())
    throw Error(ExitCode::kNumerical, place,
                "expected a save before the loss spike to go back to, got none",
                "checkpoint.every says how often a run is saved");
  const RollbackRow row{.step = counters_.step,
                        .to = opened.manifest.step,
                        .first = spike.first,
                        .last = spike.last,
                        .count = rollbacks_.count + 1};
  Rollbacks rollbacks{.count = row.count, .passed_over = rollbacks_.passed_over};
  rollbacks.passed_over.push_back(spike);
  watchdog_ = LossWatchdog(options);
  restore(session_.restore(opened));
  pass_over(rollbacks);
  open_loader();
  if (log_ == nullptr) return;
  for (const std::string& notice : opened.notices) log_->note(notice);
  log_->rollback(row);
}

void Trainer::pass_over(const Rollbacks& rollbacks) {
  rollbacks_ = rollbacks;
  std::vector<StepRange>& skip = session_.plan().batches.skip;
  skip = session_.plan().run.train.skip_steps;
  skip.insert(skip.end(), rollbacks.passed_over.begin(), rollbacks.passed_over.end());
}

void Trainer::watch_skips(const StepBatch& batch, const StepResult& result) {
  if (batch.skipped || result.empty || result.state.skip == 0) return;
  if (!result.spiked() && log_ != nullptr) {
    log_->warning(
        "nonfinite",
        fmt::format("{}: no update was made; first bad gradient {}; packs {}; last save {}",
                    place_of(batch), result.bad_gradient, fmt::join(batch.pack_ids, " "),
                    keeper_.last_saved()));
  }
  const int64_t in_a_row = result.state.skipped_in_a_row;
  if (in_a_row < session_.plan().run.train.max_skipped) return;
  throw Error(
      ExitCode::kNumerical, place_of(batch),
      fmt::format("expected {}, got {} skipped steps in a row (train.max_skipped)",
                  result.spiked() ? "a loss without a spike" : "a finite gradient norm", in_a_row),
      last_good_line(keeper_));
}

void Trainer::check_self(const StepBatch& batch, const StepResult& result) {
  const SessionPlan& plan = session_.plan();
  const SelfCheckRow row = self_check_.finish(batch.step, result,
                                              {{"configuration", dump_run(plan.run)},
                                               {"data", plan.data.identity().dump()},
                                               {"data position", sampler_.to_json().dump()}});
  if (log_ != nullptr) log_->self_check(row);
}

}  // namespace ink

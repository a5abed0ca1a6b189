// One step of the trainer: issued, read, told.
#include <fmt/ranges.h>

#include "launch/machine_peak.h"
#include "launch/trainer/faults.h"
#include "launch/trainer/step_row.h"
#include "launch/trainer/trainer.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Trainer::one_step(StepBatch batch, double data_seconds) {
  Issued issued{.start = Clock::now(), .data_seconds = data_seconds};
  if (!batch.skipped) {
    double squared = 0;
    for (const HostBatch& host : batch.micro_batches) squared += squared_lengths(host);
    const int rank = session_.world().rank();
    session_.step().start({.micro_batches = batch.micro_batches,
                           .trained = batch.trained,
                           .step = batch.step,
                           .spoil = gradient_fault(session_.plan().run.faults, batch.step, rank,
                                                   session_.model().parameters()),
                           .local = {squared, wants_to_stop() ? 1.0 : 0.0}});
    if (const std::string note = session_.step().take_note(); log_ != nullptr && !note.empty())
      log_->warning("cuda_graph", note);
  }
  counters_.step = batch.step;
  counters_.tokens += batch.real_tokens;
  counters_.trained += batch.trained;
  sampler_ = batch.state;
  batch.micro_batches.clear();
  issued.batch = std::move(batch);
  issued.total_tokens = counters_.tokens;
  if (late_ || issued.batch.skipped) flush();  // the step before this one
  issued_ = std::move(issued);
  if (!late_) flush();
}

void Trainer::flush() {
  if (!issued_) return;
  const Issued issued = std::move(*issued_);
  issued_.reset();
  StepResult result;
  if (issued.batch.skipped) {
    result.state = session_.optimizer().state();
  } else {
    result = session_.step().finish();
    counters_.loss = result.empty ? counters_.loss : result.loss;
    stop_votes_ = result.sums[1];
  }
  step_delay(session_.plan().run.faults, session_.world().rank());
  // A step that waited in line behind the one before took the time since that one was read.
  const Clock::time_point now = Clock::now();
  const double alone =
      std::chrono::duration<double>(now - issued.start).count() + issued.data_seconds;
  const double in_line = std::chrono::duration<double>(now - reported_).count();
  reported_ = now;
  report(issued, result, late_ ? std::min(alone, in_line) : alone);
  watch_skips(issued.batch, result);
}

void Trainer::report(const Issued& issued, const StepResult& result, double seconds) {
  if (log_ == nullptr) return;
  const SessionPlan& plan = session_.plan();
  const auto make = [&] {
    return make_step_row(session_, issued.batch, result,
                         {.seconds = seconds,
                          .data_seconds = issued.data_seconds,
                          .squared_lengths = result.sums[0],
                          .peak = peak_});
  };
  StepRow row = make();
  if (row.mfu.value_or(0) > 1) {
    const double before = *peak_;
    peak_ = raise_peak(session_.runtime(), plan.seat, plan.model.compute, before * *row.mfu);
    log_->note(
        fmt::format("machine peak: step {} was faster than the {:.0f} GFLOP/s measured "
                    "before, perhaps on a busy machine; now {:.0f}",
                    row.step, before * 1e-9, *peak_ * 1e-9));
    row = make();
  }
  row.total_tokens = issued.total_tokens;
  row.elapsed = elapsed();
  log_->step(row);
  // After the first row, which is not kept waiting for it.
  if (!peak_ && !issued.batch.skipped)
    peak_ = measure_peak(session_.runtime(), plan.seat, plan.model.compute);
}

void Trainer::watch_skips(const StepBatch& batch, const StepResult& result) {
  if (batch.skipped || result.empty || result.state.skip == 0) return;
  const std::string place = fmt::format("step {}", batch.step);
  if (log_ != nullptr) {
    log_->warning(
        "nonfinite",
        fmt::format("{}: no update was made; first bad gradient {}; packs {}; last save {}", place,
                    result.bad_gradient, fmt::join(batch.sample_ids, " "), keeper_.last_saved()));
  }
  const int64_t in_a_row = result.state.skipped_in_a_row;
  if (in_a_row < session_.plan().run.train.max_skipped) return;
  throw Error(
      ExitCode::kNumerical, place,
      fmt::format(
          "expected a finite gradient norm, got {} non-finite steps in a row (train.max_skipped)",
          in_a_row),
      "last good checkpoint: " + keeper_.last_saved());
}

}  // namespace ink

// One step of the trainer: issued, read, told.
#include "launch/kernel_choices.h"
#include "launch/machine_peak.h"
#include "launch/trainer/bit_flip.h"
#include "launch/trainer/faults.h"
#include "launch/trainer/step_row.h"
#include "launch/trainer/trainer.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Trainer::one_step(StepBatch batch, double data_seconds) {
  Issued issued{
      .start = Clock::now(), .data_seconds = data_seconds, .check = self_check_.due(batch.step)};
  if (!batch.skipped) {
    double squared = 0;
    for (const HostBatch& host : batch.micro_batches) squared += squared_lengths(host);
    const int rank = session_.world().rank();
    const auto& faults = session_.plan().run.faults;
    const auto slots = session_.optimizer().slots();
    StepWork work{.micro_batches = batch.micro_batches,
                  .trained = batch.trained,
                  .step = batch.step,
                  .spoil = gradient_fault(faults, batch.step, rank, session_.model().parameters()),
                  .reduced = gradient_flip(faults, batch.step, rank, slots),
                  .local = {squared, wants_to_stop() ? 1.0 : 0.0}};
    if (issued.check)
      work.reduced = [this, flip = std::move(work.reduced)] {
        if (flip) flip();
        self_check_.look_at_gradients();
      };
    if (watchdog_.does(SpikeAction::kSkip))
      work.veto = [this, step = batch.step](double loss) { return watchdog_.judge(step, loss); };
    session_.step().start(work);
    flip_parameter(faults, batch.step, rank, slots);
    issued.facts = {.shape = shape_of(batch.micro_batches),
                    .tokens = batch.tokens,
                    .micro_batches = static_cast<int64_t>(batch.micro_batches.size())};
    counters_.consumed += batch.tokens;
    if (log_ != nullptr) tell_kernels();
  }
  counters_.step = batch.step;
  counters_.tokens += batch.real_tokens;
  counters_.trained += batch.trained;
  sampler_ = batch.state;
  batch.micro_batches.clear();
  issued.batch = std::move(batch);
  issued.total_tokens = counters_.tokens;
  issued.facts.consumed_tokens = counters_.consumed;
  if (late_ || issued.batch.skipped) flush();  // the step before this one
  const bool at_once = !late_ || issued.check;
  issued_ = std::move(issued);
  if (at_once) flush();
}

// What has come of the choices that are made when a kernel or a graph is first asked for.
void Trainer::tell_kernels() {
  const Device device = session_.plan().seat.device;
  if (const std::string note = session_.step().take_note(); !note.empty())
    log_->warning("cuda_graph", note);
  for (const KernelRefusal& refusal : new_refusals(session_.runtime()))
    log_->warning("kernels", refusal_text(refusal, device));
  if (std::exchange(kernels_told_, true)) return;
  for (const std::string& line : unmet_wishes(session_.plan().run.kernels, device))
    log_->warning("kernels", line);
  if (device == Device::kCpu) return;
  if (const std::string ran = kernels_that_ran(device); !ran.empty()) log_->note("kernels: " + ran);
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
  double seconds = std::chrono::duration<double>(Clock::now() - issued.start).count();
  if (result.device) seconds = result.device->alone;
  seconds += issued.data_seconds;
  // A step that waited in line did so while the host waited for its data.
  if (result.device) seconds = std::min(seconds, result.device->in_line);
  const double checked = issued.check ? self_check_.seconds() : 0;
  report(issued, result, seconds - checked);
  watch_loss(issued.batch, result);
  watch_skips(issued.batch, result);
  if (issued.check) check_self(issued.batch, result);
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
    session_.runtime().backend().synchronize();  // nothing runs beside the measurement
    peak_ = raise_peak(plan.seat, plan.model.compute, before * *row.mfu);
    log_->note(
        fmt::format("machine peak: step {} was faster than the {:.0f} GFLOP/s measured "
                    "before, perhaps on a busy machine; now {:.0f}",
                    row.step, before * 1e-9, *peak_ * 1e-9));
    row = make();
  }
  row.total_tokens = issued.total_tokens;
  row.elapsed = elapsed();
  if (reference_) row.reference = reference_->row(row, result, issued.facts);
  log_->step(row);
  if (!peak_ && !peak_sought_ && !issued.batch.skipped) find_peak();
}

}  // namespace ink

#include "launch/trainer/trainer.h"

#include <fmt/ranges.h>

#include <array>

#include "engine/io/json.h"
#include "launch/machine_peak.h"
#include "launch/trainer/faults.h"
#include "launch/trainer/signals.h"
#include "launch/trainer/step_row.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

std::string name_of(EndReason reason) {
  static constexpr std::array kNames = {"done", "max_steps", "max_hours", "signal"};
  return kNames[static_cast<size_t>(reason)];
}

Trainer::Trainer(Session& session, RunLog* log, TrainerOptions options,
                 const std::optional<nlohmann::json>& resume)
    : session_(session),
      log_(log),
      options_(std::move(options)),
      keeper_(session, log, options_.run_id, options_.version, options_.write_hf),
      sampler_({.seed = static_cast<uint64_t>(session.plan().run.train.seed),
                .drawn = std::vector<int64_t>(session.plan().data.train.size(), 0)}),
      late_(session.runtime().device() != Device::kCpu) {
  if (!resume) return;
  const std::string place = "checkpoint";
  const JsonReader reader(*resume, place, "trainer");
  if (!session_.plan().allow_data_change)
    session_.plan().data.check_identity(reader.at("data"), place);
  sampler_ = SamplerState::from_json(reader.at("sampler"), place);
  counters_ = {.step = reader.integer("step", 0),
               .tokens = reader.integer("tokens", 0),
               .trained = reader.integer("trained_tokens", 0)};
  resumed_ = true;
  keeper_.resumed_at(counters_.step);
}

EndReason Trainer::run() {
  const SessionPlan& plan = session_.plan();
  Loader loader(plan.data.train, session_.loader_options(),
                resumed_ ? std::optional(sampler_) : std::nullopt);
  peak_ = cached_peak(plan.seat, plan.model.compute);
  bool stopped = false;
  if (counters_.step == 0) {
    stopped = !evaluate();
    sample();
  }
  EndReason reason = EndReason::kDone;
  while (!stopped) {
    if (options_.max_steps && counters_.step >= *options_.max_steps &&
        counters_.step < plan.total_steps) {
      reason = EndReason::kMaxSteps;
      break;
    }
    const Clock::time_point start = Clock::now();
    std::optional<StepBatch> batch = loader.next();
    if (!batch) break;
    one_step(std::move(*batch), seconds_since(start));
    if (plan.run.train.eval_every && counters_.step % *plan.run.train.eval_every == 0 &&
        counters_.step < plan.total_steps)
      stopped = !evaluate();
    if (plan.run.log.samples.every > 0 && counters_.step % plan.run.log.samples.every == 0)
      sample();
    stopped = stopped || vote_at_step();
    if (counters_.step % plan.run.checkpoint.every == 0 && counters_.step < plan.total_steps &&
        !stopped) {
      flush();
      keeper_.save(counters_, sampler_);
    }
    keeper_.poll();
  }
  flush();
  if (stopped) reason = wants_to_stop().value_or(EndReason::kSignal);
  if (reason == EndReason::kDone) {
    static_cast<void>(evaluate());
    sample();
  }
  keeper_.save_last(counters_, sampler_);
  return reason;
}

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

bool Trainer::evaluate() {
  flush();
  SessionPlan& plan = session_.plan();
  if (plan.data.eval.empty()) return true;
  const Clock::time_point start = Clock::now();
  EvalRow row{.step = counters_.step};
  for (const EvalPacks& set : plan.data.eval) {
    const LoaderOptions o = session_.loader_options();
    const EvalLoader loader(set.packs, {.dp_rank = o.dp_rank,
                                        .dp_size = o.dp_size,
                                        .micro_batch_size = o.micro_batch_size,
                                        .max_packs = plan.run.train.eval_batches.value_or(0) *
                                                     plan.batches.global_batch_size,
                                        .reset_positions = o.reset_positions});
    const EvalResult result = session_.step().evaluate(
        loader.size(), [&](int64_t i) { return loader.read(i); }, loader.trained(),
        [&] { return vote_to_stop(); });
    if (!result.complete) return false;
    row.sets.push_back({.name = set.name,
                        .loss = result.loss,
                        .accuracy = result.accuracy,
                        .tokens = result.trained});
  }
  row.seconds = seconds_since(start);
  if (log_ != nullptr) log_->eval(row);
  return true;
}

void Trainer::sample() {
  flush();
  if (log_ == nullptr || !options_.sample) return;
  for (const SampleRow& row : options_.sample(counters_.step)) log_->sample(row);
}

bool Trainer::vote_to_stop() {
  double votes = wants_to_stop() ? 1.0 : 0.0;
  session_.step().sum_over_ranks({&votes, 1});
  return votes > 0;
}

// Ranks with cards have voted in the step that was read last: a vote now would wait for the device.
bool Trainer::vote_at_step() {
  return late_ && session_.world().size() > 1 ? stop_votes_ > 0 : vote_to_stop();
}

std::optional<EndReason> Trainer::wants_to_stop() const {
  if (stop_signal() != 0) return EndReason::kSignal;
  const auto& limit = session_.plan().run.train.max_hours;
  if (limit && elapsed() > *limit * 3600.0) return EndReason::kMaxHours;
  return std::nullopt;
}

double Trainer::elapsed() const { return seconds_since(start_); }

}  // namespace ink

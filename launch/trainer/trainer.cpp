#include "launch/trainer/trainer.h"

#include <array>

#include "engine/io/json.h"
#include "launch/machine_peak.h"
#include "launch/trainer/signals.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::optional<ReferenceLog> reference_log(Session& session, const RunLog* log) {
  if (log == nullptr || !session.plan().run.train.compat.log_line) return std::nullopt;
  return ReferenceLog(text_types(session.plan().data), session.world().size());
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
      watchdog_(session.plan().run.train.loss_watchdog),
      sampler_({.seed = static_cast<uint64_t>(session.plan().run.train.seed),
                .drawn = std::vector<int64_t>(session.plan().data.train.size(), 0)}),
      self_check_(session.model().parameters(), session.optimizer(), session.world(),
                  {.every = session.plan().run.train.self_check_every,
                   .first_step = resume ? resume->value("step", int64_t{0}) + 1 : 1,
                   .clip_norm = session.plan().run.optim.clip_norm}),
      reference_(reference_log(session, log)),
      late_(session.runtime().device() != Device::kCpu && !watchdog_.does(SpikeAction::kSkip)) {
  if (resume) restore(*resume);
}

void Trainer::restore(const nlohmann::json& state) {
  const std::string place = "checkpoint";
  const JsonReader reader(state, place, "trainer");
  if (!session_.plan().allow_data_change)
    session_.plan().data.check_identity(reader.at("data"), place);
  sampler_ = SamplerState::from_json(reader.at("sampler"), place);
  counters_ = {.step = reader.integer("step", 0),
               .tokens = reader.integer("tokens", 0),
               .trained = reader.integer("trained_tokens", 0)};
  if (reader.has("consumed_tokens")) counters_.consumed = reader.integer("consumed_tokens", 0);
  if (reader.has("loss_watchdog")) watchdog_.restore(reader.at("loss_watchdog"), place);
  if (reader.has("rollbacks")) pass_over(Rollbacks::from_json(reader.at("rollbacks"), place));
  const CheckpointMarks marks = marks_of(state, place);
  if (session_.plan().run.checkpoint.keep_best) best_ = marks.best;
  resumed_ = true;
  keeper_.resumed_at(counters_.step, marks, state.value("rollbacks", nlohmann::json()));
}

RunRecord Trainer::record() const {
  RunRecord record{.counters = counters_,
                   .sampler = sampler_,
                   .loss_watchdog = watchdog_.state(),
                   .rollbacks = rollbacks_.count > 0 ? rollbacks_.to_json() : nullptr,
                   .marks = {.best = best_, .loss_spike = nullptr}};
  if (watchdog_.spike()) record.marks.loss_spike = record.loss_watchdog.at("spike");
  return record;
}

void Trainer::open_loader() {
  loader_.reset();
  loader_ = std::make_unique<Loader>(session_.plan().data.train, session_.loader_options(),
                                     resumed_ ? std::optional(sampler_) : std::nullopt);
}

// On a card before the first step: what it takes is free again when activations come, and no step
// is on its way. On the processor after the first row, which is not kept waiting for it.
void Trainer::find_peak() {
  if (log_ == nullptr) return;
  const SessionPlan& plan = session_.plan();
  peak_sought_ = true;
  peak_ = measure_peak_if_it_fits(plan.seat, plan.model.compute);
  if (!peak_) log_->note("machine peak: no memory is left to measure it in, so steps have no mfu");
}

EndReason Trainer::run() {
  const SessionPlan& plan = session_.plan();
  open_loader();
  peak_ = cached_peak(plan.seat, plan.model.compute);
  if (!peak_ && plan.seat.card) find_peak();
  bool stopped = false;
  if (counters_.step == 0) {
    stopped = !evaluate();
    sample();
  }
  EndReason reason = EndReason::kDone;
  while (!stopped) {
    const bool enough = options_.max_steps && counters_.step >= *options_.max_steps &&
                        counters_.step < plan.total_steps;
    std::optional<StepBatch> batch;
    if (!enough) {
      const Clock::time_point start = Clock::now();
      batch = loader_->next();
      if (batch) one_step(std::move(*batch), seconds_since(start));
    }
    const bool at_end = !batch;
    if (at_end) flush();
    if (rollback_) {
      roll_back();
      continue;
    }
    if (enough) reason = EndReason::kMaxSteps;
    if (at_end) break;
    stopped = between_steps();
  }
  flush();
  if (rollback_) roll_back();  // a stop came between the spike and its reading
  if (stopped) reason = wants_to_stop().value_or(EndReason::kSignal);
  if (reason == EndReason::kDone) {
    static_cast<void>(evaluate());
    sample();
  }
  keeper_.save_last(record());
  return reason;
}

// What is due at the end of a step. True: the run is to stop.
bool Trainer::between_steps() {
  const SessionPlan& plan = session_.plan();
  const bool last = counters_.step >= plan.total_steps;
  const auto due = [&](int64_t every) { return every > 0 && counters_.step % every == 0; };
  bool stopped = !last && due(plan.run.train.eval_every.value_or(0)) && !evaluate();
  if (due(plan.run.log.samples.every)) sample();
  stopped = stopped || vote_at_step();
  const bool save = due(plan.run.checkpoint.every) || (best_ && best_->step == counters_.step);
  if (save && !last && !stopped) {
    flush();
    // A spike that may be rolled back leaves no save behind it.
    if (!watchdog_.does(SpikeAction::kRollback) || !watchdog_.spike()) keeper_.save(record());
  }
  keeper_.poll();
  return stopped;
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

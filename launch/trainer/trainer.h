// The training loop: batches in, steps made, rows told, checkpoints saved, until the run ends or is
// asked to end.
//
// Every rank runs it; rank 0 alone has a RunLog and writes checkpoints. Whether to stop is voted at
// every step boundary, so all ranks save the same step. On a card a step is read when the next one
// has been issued, and at once where something else needs it: an evaluation, samples, a save, the
// end.
//
// Guards of numbers, the same decision on every rank: steps that make no update (watch_skips), the
// loss (LossWatchdog), which may send the run back to an earlier save (roll_back), gradients and
// replicas (SelfCheck). With checkpoint.keep_best the best evaluation so far is saved at once.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "data/loader/eval_loader.h"
#include "data/loader/loader.h"
#include "launch/report/run_log.h"
#include "launch/trainer/checkpoint_keeper.h"
#include "launch/trainer/loss_watchdog.h"
#include "launch/trainer/reference_log.h"
#include "launch/trainer/rollbacks.h"
#include "launch/trainer/self_check.h"
#include "launch/trainer/session.h"

namespace ink {

struct TrainerOptions {
  std::optional<int64_t> max_steps;  // stop after this step; T stays what it is
  std::string run_id, version;
  // The Hugging Face form of a snapshot's weights; none: checkpoints hold no hf/.
  WriteHf write_hf;
  // Continues the prompts of log.samples with the live weights. Rank 0 only.
  std::function<std::vector<SampleRow>(int64_t step)> sample;
  // The newest save of an earlier step than this one outside of a loss spike, opened on every rank;
  // no path where there is none. Collective.
  std::function<OpenedCheckpoint(int64_t before)> good_save;
};

enum class EndReason { kDone, kMaxSteps, kMaxHours, kSignal };
[[nodiscard]] std::string name_of(EndReason reason);

class Trainer {
 public:
  // log: rank 0's, else nullptr. resume: the trainer section of a checkpoint.
  Trainer(Session& session, RunLog* log, TrainerOptions options,
          const std::optional<nlohmann::json>& resume);

  // Error 5 after train.max_skipped skipped steps in a row, in a loss spike that stops the run or
  // has no save to go back to, and for a self-check that fails.
  EndReason run();

  [[nodiscard]] int64_t step() const { return counters_.step; }
  [[nodiscard]] double last_loss() const { return counters_.loss; }
  [[nodiscard]] int64_t tokens() const { return counters_.tokens; }
  [[nodiscard]] double elapsed() const;  // seconds since this part of the run began

 private:
  // A step that was issued and not yet read.
  struct Issued {
    StepBatch batch;  // without its micro-batches
    std::chrono::steady_clock::time_point start;
    double data_seconds = 0;
    int64_t total_tokens = 0;  // of the run, with this step
    bool check = false;        // a self-check is due
    ReferenceFacts facts;
  };
  // On a card the step before is read and reported when this one has been issued.
  void one_step(StepBatch batch, double data_seconds);
  void find_peak();
  void flush();  // reads and reports what is on its way
  void tell_kernels();
  void report(const Issued& issued, const StepResult& result, double seconds);
  void watch_skips(const StepBatch& batch, const StepResult& result);
  void watch_loss(const StepBatch& batch, const StepResult& result);
  void check_self(const StepBatch& batch, const StepResult& result);
  void restore(const nlohmann::json& state);
  void open_loader();
  // The spike in rollback_ makes the run go back.
  void roll_back();
  void pass_over(const Rollbacks& rollbacks);
  [[nodiscard]] RunRecord record() const;
  [[nodiscard]] bool between_steps();
  bool evaluate();
  void judge(const EvalRow& row);
  void sample();
  // Does any rank want to stop? Collective.
  [[nodiscard]] bool vote_to_stop();
  [[nodiscard]] bool vote_at_step();
  [[nodiscard]] std::optional<EndReason> wants_to_stop() const;

  Session& session_;
  RunLog* log_;
  TrainerOptions options_;
  CheckpointKeeper keeper_;
  LossWatchdog watchdog_;
  std::optional<BestSave> best_;
  SamplerState sampler_;  // after the last step
  bool resumed_ = false;
  Rollbacks rollbacks_;
  std::optional<StepRange> rollback_;  // the spike that asks for one
  std::unique_ptr<Loader> loader_;
  RunCounters counters_;
  SelfCheck self_check_;
  std::optional<ReferenceLog> reference_;  // rank 0's, with train.compat.log_line
  bool late_;                              // results are read a step late
  bool kernels_told_ = false;
  std::optional<Issued> issued_;
  double stop_votes_ = 0;  // of the step that was read last
  std::optional<double> peak_;
  bool peak_sought_ = false;  // if it was not found then, it will not be
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ink

// Everything a run tells: the console line, log.txt, metrics.jsonl, TensorBoard events, loss.svg
// and report.html.
//
// Rank 0 makes one and calls it; other ranks have none. Rows are plain data, so that the trainer
// says what happened and nothing here computes anything but formatting, smoothing and the ETA.
// metrics.jsonl is appended to and flushed line by line; a resumed run goes on in the same file.
// Errors of the file system are Error 4.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "configs/schema/run_options.h"
#include "launch/report/reference_line.h"

namespace ink {

// Before step 1.
struct RunRow {
  std::string command, config_hash, layout, devices, model, resumed_from;
  int64_t parameters = 0, trainable = 0, total_steps = 0, steps_per_epoch = 0, tokens_per_step = 0;
  bool tokens_vary = false;  // from step to step; tokens_per_step is their mean
  std::string instruction_set, libraries;
};

struct StepRow {
  int64_t step = 0, total_steps = 0;
  double epoch = 0;
  double loss = 0, lr = 0, grad_norm = 0, loss_scale = 1, beta2 = 0;
  int64_t skipped = 0;  // non-finite steps and vetoed ones since start
  // Why this step made no update: "", "non-finite", "loss_spike", "empty", "skip_steps".
  std::string skip_reason;
  int64_t tokens = 0, trained_tokens = 0,
          total_tokens = 0;  // of the step, without padding; of the run so far
  double tokens_per_s = 0, tokens_per_s_per_device = 0;
  std::optional<double> mfu;  // causal; absent until the peak of the machine is known
  std::optional<double> mfu_noncausal, reference_tflops;
  std::vector<std::pair<std::string, double>> group_norms;  // where groups are clipped alone
  double step_time = 0, data_time = 0, comm_time = 0;       // seconds
  double fill_rate = 1;                                     // share of tokens that are not padding
  int64_t mem_peak = 0, mem_reserved = 0, mem_limit = 0;    // bytes of this rank
  double elapsed = 0;  // seconds since this part of the run began
  // With train.compat.log_line: what the console shows instead, at every step.
  std::optional<ReferenceRow> reference;

  // Has it a loss and a norm, with or without an update?
  [[nodiscard]] bool computed() const {
    return skip_reason != "empty" && skip_reason != "skip_steps";
  }
};

struct EvalSetRow {
  std::string name;
  double loss = 0, accuracy = 0;
  int64_t tokens = 0;
};

struct EvalRow {
  int64_t step = 0;
  std::vector<EvalSetRow> sets;
  double seconds = 0;
};

struct CheckpointRow {
  int64_t step = 0;
  std::string path;
  uint64_t bytes = 0;
  double seconds = 0;
  bool best = false, loss_spike = false;  // how it is marked
};

// A step whose loss train.loss_watchdog found too high.
struct SpikeRow {
  int64_t step = 0;
  double loss = 0, reference = 0;  // of the step; median of those before
  int64_t length = 0;              // spikes in a row
  std::vector<int64_t> packs;      // of the global batch
  std::string action;              // what was done: "warn", "skip", "stop" or "rollback"
};

// The run went back to an earlier save.
struct RollbackRow {
  int64_t step = 0, to = 0;     // the step it had come to, and that of the save
  int64_t first = 0, last = 0;  // the steps that are passed over now
  int64_t count = 0;            // rollbacks of the run so far
};

struct SelfCheckRow {
  int64_t step = 0;
  std::optional<double> grad_norm, recomputed;  // none: the step had no gradients
  int64_t ranks = 1, compared = 0;              // hashes, each over all ranks
  double seconds = 0;
};

struct SampleRow {
  int64_t step = 0, tokens = 0;
  std::string prompt, text, stop_reason;
};

struct EndRow {
  int64_t step = 0;
  double final_loss = 0, elapsed = 0;
  int64_t total_tokens = 0;
  std::string reason;  // "done", "max_steps", "max_hours", "signal"
};

class RunLog {
 public:
  // The directory exists. quiet: nothing on the console. color: only on a terminal.
  RunLog(const std::filesystem::path& directory, const LogSection& options, bool quiet, bool color);
  ~RunLog();

  void run(const RunRow& row);
  void step(const StepRow& row);  // one metrics row for every step; a console line every log.every
  void eval(const EvalRow& row);
  void checkpoint(const CheckpointRow& row);  // also redraws loss.svg and report.html
  void sample(const SampleRow& row);
  void warning(const std::string& code, const std::string& text);
  void spike(const SpikeRow& row);  // a warning of code loss_spike
  // A warning of code rollback. What was drawn of the steps behind the save goes.
  void rollback(const RollbackRow& row);
  void self_check(const SelfCheckRow& row);
  void note(const std::string& text);  // console and log.txt only
  void end(const EndRow& row);
  // After a resume at this step: rows of later steps of the interrupted part are left out of the
  // picture.
  void resume_at(int64_t step);

 private:
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
};

}  // namespace ink

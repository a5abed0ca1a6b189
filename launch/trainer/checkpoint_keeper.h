// When and how a run saves: rank 0 writes, in the background while the run goes on, at once when it
// ends.
//
// Every rank owns one and calls it at the same steps. A failed background save is thrown at the
// next step boundary.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "launch/report/run_log.h"
#include "launch/trainer/session.h"
#include "optim/checkpoint/marks.h"
#include "optim/checkpoint/save.h"

namespace ink {

struct RunCounters {
  int64_t step = 0, tokens = 0, trained = 0;  // tokens without padding; targets
  int64_t consumed = 0;                       // tokens with padding, train.skip_steps left out
  // Of the last step that had one; none without such a step.
  double loss = std::numeric_limits<double>::quiet_NaN();
};

// Everything of a run that a save records beside the tensors and what the session knows.
struct RunRecord {
  RunCounters counters;
  SamplerState sampler;
  nlohmann::json loss_watchdog;  // its state; null without one
  nlohmann::json rollbacks;      // null before the first
  CheckpointMarks marks;
};

// What bit-exact resume of this run is promised for.
[[nodiscard]] WriterInfo writer_info(const SessionPlan& plan, std::string version);

class CheckpointKeeper {
 public:
  // log: rank 0's, else nullptr. write_hf: none = no hf/ in any save.
  CheckpointKeeper(Session& session, RunLog* log, std::string run_id, std::string version,
                   WriteHf write_hf);

  // A checkpoint of this step exists already: the run was resumed from it. rollbacks: those it has.
  void resumed_at(int64_t step, const CheckpointMarks& marks, const nlohmann::json& rollbacks);
  void save(const RunRecord& record);
  // The save that ends the run: blocking, with hf/ if the run asks for it; returns on every rank
  // when it is published.
  void save_last(const RunRecord& record);
  // Waits for a background save.
  void settle() { tell(saver_.wait()); }
  // Reports a background save that has finished.
  void poll();
  // For messages: "step-20", or "none".
  [[nodiscard]] std::string last_saved() const;
  // The same, without saves that are marked.
  [[nodiscard]] std::string last_good() const;

 private:
  void write(const RunRecord& record, bool last);
  void tell(const std::optional<SaveReport>& report);

  Session& session_;
  RunLog* log_;
  std::string run_id_, version_;
  WriteHf write_hf_;
  BackgroundSaver saver_;
  int64_t saved_step_ = -1, good_step_ = -1;
  CheckpointMarks saved_marks_;
  nlohmann::json saved_rollbacks_;
  bool saved_hf_ = false;  // the save of saved_step_ holds hf/
};

}  // namespace ink

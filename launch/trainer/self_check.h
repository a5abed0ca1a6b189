// The self-check of a run: does what this rank holds still fit what it reports, and what the other
// ranks hold? For faulty hardware and missed reductions, which look like noise otherwise.
//
// Three things at a step boundary:
//   norm      sqrt of the sum of squares over the summed gradients, added on the host in f64, one
//             parameter after the other, without a kernel of the step: within 1e-6 of the norm
//             that the step reports, and the clip factor that follows from it likewise;
//   replicas  64-bit hashes of every gradient, parameter, master and moment, bit-equal on all
//             ranks;
//   facts     texts that all ranks must share: configuration, data, position, optimizer's clock.
// It reads and never writes, so a run with it has the bits of a run without. The trainer owns one
// per rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/report/run_log.h"
#include "launch/trainer/train_step.h"
#include "parallel/data_parallel/replica_check.h"

namespace ink {

struct SelfCheckOptions {
  std::optional<int64_t> every;  // steps; none: never due
  int64_t first_step = 1;        // of this process: always checked
  double clip_norm = 0;          // of the optimizer
};

struct SharedFact {
  std::string name, text;
};

class SelfCheck {
 public:
  // group: carries host tensors; all its ranks hold the whole model.
  SelfCheck(const ParameterTable& table, AdamW& optimizer, ProcessGroup& group,
            SelfCheckOptions options)
      : table_(table), optimizer_(optimizer), group_(group), options_(options) {}

  [[nodiscard]] bool due(int64_t step) const;
  // When the gradients are summed, before the update (StepWork::reduced).
  void look_at_gradients();
  // When the step was read and the next one has not begun. Collective. Error 5, on every rank the
  // same, for a norm or a replica that is off.
  [[nodiscard]] SelfCheckRow finish(int64_t step, const StepResult& result,
                                    const std::vector<SharedFact>& facts);
  // That this check has taken so far.
  [[nodiscard]] double seconds() const { return seconds_; }

 private:
  // The norm as this rank recomputed it.
  struct OwnNorm {
    double norm = 0, loss_scale = 1;
  };
  void check_norms(int64_t step, const StepResult& result) const;
  void check_replicas(int64_t step, const std::vector<SharedFact>& facts);
  [[nodiscard]] std::string last_good() const;

  const ParameterTable& table_;
  AdamW& optimizer_;
  ProcessGroup& group_;
  SelfCheckOptions options_;
  std::optional<OwnNorm> own_;
  ReplicaHashes hashes_;
  int64_t passed_ = 0;  // the last step that passed
  double seconds_ = 0;
};

}  // namespace ink

// A golden model as one rank trains it: runtime, parameters, optimizer and step, with the recipe of
// the golden runs unless told otherwise.
#pragma once

#include <memory>

#include "launch/trainer/train_step.h"
#include "parallel/comm/process_group.h"
#include "tests/support/fixture.h"
#include "tests/support/golden.h"
#include "tests/support/threads.h"

namespace ink {

struct TraineeOptions {
  DType compute = DType::kF32;
  Recompute recompute = Recompute::kNone;
  double dropout = 0;
  LossMean loss_mean = LossMean::kTokens;
  bool overlap = true;
  int64_t bucket_bytes = ReducerOptions{}.bucket_bytes;
  bool graphs = false;     // record micro-batches
  int64_t max_length = 0;  // of a document; 0: as each micro-batch says
  Device device = Device::kCpu;
  int ordinal = 0;     // which card; several ranks on cards need their transport linked
  int threads = 1;     // OpenMP threads while the Trainee lives; 0 = as many as before
  OptimSection optim;  // golden_recipe() unless set
  TraineeOptions();
};

// AdamW, betas .9/.95, eps 1e-5, decay 0.1, clip 0.5, four steps of warm-up to 1e-3.
[[nodiscard]] OptimSection golden_recipe();

class Trainee {
 public:
  Trainee(const Golden& golden, ProcessGroup& group, const TraineeOptions& options = {});

  [[nodiscard]] Runtime& runtime() { return runtime_; }
  [[nodiscard]] const Decoder& model() const { return *model_; }
  [[nodiscard]] ParameterTable& table() { return table_; }
  [[nodiscard]] AdamW& optimizer() { return optimizer_; }
  [[nodiscard]] TrainStep& step() { return step_; }
  // What the group does not carry itself; null where it carries all.
  [[nodiscard]] const ProcessGroup* device_group() const { return device_group_.get(); }

  // Under Hugging Face names. Gradients are those of the last step or backward, before clipping.
  [[nodiscard]] NamedValues parameters() const;
  [[nodiscard]] NamedValues gradients() const;
  [[nodiscard]] NamedValues first_moments();
  [[nodiscard]] NamedValues second_moments();

  // Forward over one micro-batch, f64 sum of its token losses.
  double loss_sum(const HostBatch& batch);
  // Gradients of one micro-batch divided by `divisor`; forgets those before. Returns the loss.
  double backward_of(const HostBatch& batch, double divisor);

 private:
  [[nodiscard]] NamedValues moments(Tensor OptimizerSlot::*moment);

  ScopedThreads threads_;
  ModelOptions options_;
  Runtime runtime_;
  std::unique_ptr<ProcessGroup> device_group_;  // where `group` does not carry the device's tensors
  ParameterTable table_;
  std::unique_ptr<Decoder> model_;
  AdamW optimizer_;
  TrainStep step_;
};

}  // namespace ink

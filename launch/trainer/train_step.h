// One optimizer step on one rank: forward and backward over its micro-batches, reduction, update.
// And the same without gradients, for evaluation.
//
// The loss of a step is the sum of token losses over the whole global batch divided by its trained
// tokens, so gradients and losses are only ever added: over micro-batches here, over ranks by the
// group. Used by the trainer and by the parity tests.
#pragma once

#include <functional>
#include <span>

#include "data/loader/host_batch.h"
#include "models/common/decoder.h"
#include "optim/update/adamw.h"
#include "parallel/comm/process_group.h"
#include "parallel/data_parallel/reducer.h"

namespace ink {

struct TrainStepOptions {
  double label_smoothing = 0, z_loss = 0;
  int64_t rope_length = 0;  // training_rope_length()
  uint64_t seed = 0;        // of dropout
  bool overlap = true;      // reduce while backward runs
  // Without: one rank frees them after the update, so that gradients and what a forward pass keeps
  // need not fit together. Several ranks hold them in the reducer's buckets all the time.
  bool keep_gradients = false;
};

struct StepResult {
  double loss = 0;           // of the whole global batch
  bool empty = false;        // no trained token anywhere: nothing was updated
  StepState state;           // after the step: lr, norm, skip
  std::string bad_gradient;  // name of the first non-finite one when the step was skipped for it
  double comm_seconds = 0;   // waiting for reductions
};

struct EvalResult {
  double loss = 0, accuracy = 0;  // per trained token
  int64_t trained = 0;
  bool complete = true;  // false: poll asked to stop
};

class TrainStep {
 public:
  TrainStep(Runtime& runtime, const Decoder& model, ParameterTable& table, AdamW& optimizer,
            ProcessGroup& data_parallel, TrainStepOptions options);

  // step: 1-based. trained: of the global batch. spoil: called with the gradients complete on this
  // rank, before they are reduced (fault hooks).
  StepResult run(std::span<const HostBatch> micro_batches, int64_t trained, int64_t step,
                 const std::function<void()>& spoil = {});
  // read(i) for i < count gives this rank's micro-batches. Leaves training state and random numbers
  // alone. poll is called after each of them, on every rank alike; true ends the evaluation.
  EvalResult evaluate(int64_t count, const std::function<HostBatch(int64_t)>& read, int64_t trained,
                      const std::function<bool()>& poll = {});

  // Sum over the ranks, in place.
  void sum_over_ranks(std::span<double> values);

 private:
  Runtime& runtime_;
  const Decoder& model_;
  AdamW& optimizer_;
  ProcessGroup& group_;
  ParameterTable& table_;
  TrainStepOptions options_;
  Reducer reducer_;
};

}  // namespace ink

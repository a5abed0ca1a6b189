// One optimizer step on one rank: forward and backward over its micro-batches, reduction, update.
// And the same without gradients, for evaluation.
//
// start() issues a step without waiting for the device, finish() reads what became of it: the loop
// starts a step before it finishes the one before, so that the device always has work.
//
// The loss of a step is the sum of token losses over the whole global batch divided by its trained
// tokens, so gradients and losses are only ever added: over micro-batches here, over ranks by the
// group. With LossMean::kMicroBatches the divisor is another one for every micro-batch, and the sum
// is the mean of their means. Used by the trainer and by the parity tests.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "data/loader/host_batch.h"
#include "engine/tensor/device_mark.h"
#include "launch/trainer/micro_batch.h"
#include "launch/trainer/token_scores.h"
#include "models/common/decoder.h"
#include "optim/update/adamw.h"
#include "parallel/comm/process_group.h"
#include "parallel/data_parallel/reducer.h"

namespace ink {

// What the loss is the mean of: the trained tokens of the global batch; or, as in InternEvo
// (train.compat.loss_mean), the micro-batches of all ranks, each the mean over its own tokens. One
// without trained token is 0/0 then: the step has a gradient that is not a number.
enum class LossMean : uint8_t { kTokens, kMicroBatches };

struct TrainStepOptions {
  LossMean loss_mean = LossMean::kTokens;
  double label_smoothing = 0, z_loss = 0;
  int64_t rope_length = 0;  // training_rope_length()
  uint64_t seed = 0;        // of dropout
  bool overlap = true;      // reduce while backward runs
  int64_t bucket_bytes = ReducerOptions{}.bucket_bytes;
  // Without: one rank frees them after the update, so that gradients and what a forward pass keeps
  // need not fit together. Several ranks hold them in the reducer's buckets all the time.
  bool keep_gradients = false;
  bool graphs = false;     // record micro-batches on devices that can; keeps gradients
  int64_t max_length = 0;  // of a document; 0: as each micro-batch says
  // Type of the text of every source; not empty: a step also tells losses and accuracy by type.
  std::vector<int64_t> type_of_source = {};
};

// What a step works on.
struct StepWork {
  std::span<const HostBatch> micro_batches;  // of this rank
  int64_t trained = 0;                       // of the global batch
  int64_t step = 1;                          // 1-based
  // Called with the gradients complete on this rank, before they are reduced (fault hooks).
  std::function<void()> spoil = {};
  // Called with the gradients summed over the ranks, before the update (self-check, fault hooks).
  std::function<void()> reduced = {};
  // Called with the loss of the global batch before the update; true: no update. The loss is then
  // waited for, where otherwise nothing waits before finish().
  std::function<bool(double loss)> veto = {};
  std::array<double, 2> local{};  // of this rank, to be summed over the ranks with the loss
};

// How long a device had a step, by its own clock: the host reads a step when it has issued the next
// one, which may take it longer than the step itself.
struct DeviceTimes {
  double alone = 0;    // from its beginning
  double in_line = 0;  // from the end of the step before; infinite for the first one
};

struct StepResult {
  double loss = 0;           // of the whole global batch
  bool empty = false;        // no trained token anywhere: nothing was updated
  bool vetoed = false;       // StepWork::veto: nothing was updated
  StepState state;           // after the step: lr, norm, skip
  std::string bad_gradient;  // name of the first non-finite one when the step was skipped for it
  double comm_seconds = 0;   // the host's wait for reductions
  // Of this rank, on the processor: on a card the host does not see them, and they are NaN.
  double forward_backward_seconds = 0, backward_seconds = 0;
  std::optional<DeviceTimes> device;   // where the device works behind the host
  std::vector<GroupNorm> group_norms;  // where groups are clipped alone
  std::vector<TypeScore> types;        // of the global batch; TrainStepOptions::type_of_source
  std::array<double, 2> sums{};        // StepWork::local over the ranks

  // Skipped for the veto alone.
  [[nodiscard]] bool spiked() const { return vetoed && bad_gradient.empty(); }
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

  void start(const StepWork& work);
  // Of the oldest step that was started; waits for it.
  [[nodiscard]] StepResult finish();
  StepResult run(std::span<const HostBatch> micro_batches, int64_t trained, int64_t step,
                 const std::function<void()>& spoil = {}) {
    start({.micro_batches = micro_batches, .trained = trained, .step = step, .spoil = spoil});
    return finish();
  }
  // Why micro-batches are not recorded although the options ask for it, once.
  [[nodiscard]] std::string take_note() { return micro_batch_.take_note(); }
  [[nodiscard]] int64_t graph_launches() const { return micro_batch_.launches(); }

  // read(i) for i < count gives this rank's micro-batches. Leaves training state and random numbers
  // alone. poll is called after each of them, on every rank alike; true ends the evaluation.
  EvalResult evaluate(int64_t count, const std::function<HostBatch(int64_t)>& read, int64_t trained,
                      const std::function<bool()>& poll = {});

  // Sum over the ranks, in place.
  void sum_over_ranks(std::span<double> values);

 private:
  // A step on its way.
  struct Started {
    bool empty = false, vetoed = false;
    std::array<double, 2> local{};
    double comm_seconds = 0, forward_backward_seconds = 0, backward_seconds = 0;
    std::unique_ptr<HostRead> state, squares, losses;
    std::unique_ptr<DeviceMark> begin, end;
    std::unique_ptr<TokenScores> scores;
    int64_t ranks = 1;         // whose losses and local values were gathered
    std::vector<double> sums;  // read already, for the veto
  };
  void micro_batches(const StepWork& work, Tensor& losses_M, Started& started);
  [[nodiscard]] double divisor_of(const StepWork& work, const HostBatch& micro_batch) const;
  [[nodiscard]] bool has_no_mean(const StepWork& work) const;
  void read_losses_later(Started& started, const Tensor& losses_M);
  void read_later(Started& started);
  void read_sums(Started& started);
  [[nodiscard]] std::optional<DeviceTimes> times_of(Started& started);
  [[nodiscard]] std::vector<TypeScore> types_of(Started& started);

  Runtime& runtime_;
  const Decoder& model_;
  AdamW& optimizer_;
  ProcessGroup& group_;
  ParameterTable& table_;
  TrainStepOptions options_;
  Reducer reducer_;
  MicroBatch micro_batch_;
  std::deque<Started> started_;
  std::unique_ptr<DeviceMark> last_end_;  // of the step that was finished last
};

}  // namespace ink

// Forward and backward of micro-batches on one rank.
//
// A device that records (CUDA) gets every micro-batch in the same memory and shape, T tokens and
// borders padded to a capacity with empty documents: the first of a kind runs as it comes, the
// second is recorded, and from then on the recording is launched as a whole. Kinds are
// micro-batches that find gradients to add to, and those that do not. What changes from step to
// step is read on the device (StepState). Where a recording is not possible, micro-batches go on as
// they come, and take_note() says why.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/loader/host_batch.h"
#include "engine/nn/batch.h"
#include "engine/nn/parameter.h"
#include "models/common/decoder.h"

namespace ink {

struct MicroBatchOptions {
  int64_t rope_length = 0;  // training_rope_length()
  uint64_t seed = 0;        // of dropout
  bool graphs = false;      // record on devices that can
  int64_t max_length = 0;   // no document is longer; 0: as each micro-batch says
  int64_t documents = 0;    // no micro-batch has more; 0: not known
};

// Does somebody act on gradients while backward runs? Then it must run as it comes.
enum class GradientWatch : uint8_t { kNone, kWatched };

class MicroBatch {
 public:
  MicroBatch(Runtime& runtime, const Decoder& model, const ParameterTable& table,
             MicroBatchOptions options);

  // Adds to the gradients of the parameters and writes the loss, a scalar. Nothing waits for the
  // device. step: 0-based number of the global batch.
  void run(const HostBatch& host, const LmLossOptions& loss_options, int64_t step,
           GradientWatch watch, Tensor& loss);
  // Why recording was given up, once.
  [[nodiscard]] std::string take_note() { return std::exchange(note_, {}); }
  [[nodiscard]] int64_t launches() const { return launches_; }  // of recordings

 private:
  struct Recording {
    bool seen = false;
    std::unique_ptr<DeviceGraph> graph;
    Tensor loss;
    std::vector<bool> gradients_after;
  };
  [[nodiscard]] Tensor compute(const Batch& batch, const LmLossOptions& loss_options);
  void load(const HostBatch& host, const LmLossOptions& loss_options, int64_t step);
  void record(Recording& recording, const LmLossOptions& loss_options);
  [[nodiscard]] std::vector<bool> gradients() const;
  void set_gradients(const std::vector<bool>& there);

  Runtime& runtime_;
  const Decoder& model_;
  const ParameterTable& table_;
  MicroBatchOptions options_;
  bool recording_;
  Batch inputs_;       // where recordings find their micro-batch
  int64_t documents_;  // capacity; one that was not known is exceeded and doubled
  std::map<std::vector<bool>, Recording> recordings_;  // by the parameters that have a gradient
  std::string note_;
  int64_t launches_ = 0;
};

}  // namespace ink

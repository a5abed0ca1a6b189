// Forward and backward of micro-batches on one rank.
//
// A device that records (CUDA) gets every micro-batch of T tokens in the same memory, its borders
// padded with empty documents to a power of two: the first of a kind runs as it comes, the second
// is recorded, and from then on the recording is launched as a whole. Kinds differ in the number of
// documents, in the gradients that a micro-batch finds to add to, and in whether it is reduced.
// (One kind for the most documents that a pack may hold would cost more: kernels start blocks for
// the empty ones too.) What changes from step to step is read on the device (StepState). Where a
// recording is not possible, micro-batches go on as they come in the same memory, and take_note()
// says why; memory that runs out in a recording is an error like everywhere.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/loader/host_batch.h"
#include "engine/nn/batch.h"
#include "engine/nn/parameter.h"
#include "models/common/decoder.h"
#include "parallel/data_parallel/reducer.h"

namespace ink {

struct MicroBatchOptions {
  int64_t rope_length = 0;  // training_rope_length()
  uint64_t seed = 0;        // of dropout
  bool graphs = false;      // record on devices that can
  int64_t max_length = 0;   // no document is longer; 0: as each micro-batch says
  bool keep_scores = false;
};

class MicroBatch {
 public:
  MicroBatch(Runtime& runtime, const Decoder& model, const ParameterTable& table,
             MicroBatchOptions options);

  // Adds to the gradients of the parameters and writes the loss, a scalar. Nothing waits for the
  // device. step: 0-based number of the global batch. reducer: sums the gradients over ranks as
  // backward finishes them, always the same one; none: they stay as they are.
  void run(const HostBatch& host, const LmLossOptions& loss_options, int64_t step, Reducer* reducer,
           Tensor& loss);
  // On a card: with empty documents up to a power of two, and the longest as if it were max_length,
  // so that kernels which are built or recorded for a shape (cuDNN, graphs) see few.
  [[nodiscard]] HostBatch in_shape(HostBatch host) const;
  // Other work of the device between two micro-batches (evaluation), in the memory that recordings
  // write to, so that it needs none beside it. What `work` allocates is gone when it ends.
  void between(const std::function<void()>& work);
  // Why recording was given up, once.
  [[nodiscard]] std::string take_note() { return std::exchange(note_, {}); }
  [[nodiscard]] int64_t launches() const { return launches_; }  // of recordings
  // With keep_scores: what the last micro-batch said of every token, until the next one runs.
  [[nodiscard]] const LmLoss& scores() const { return scores_; }
  // In backward, as the host sees it, so far.
  [[nodiscard]] double backward_seconds() const { return backward_seconds_; }

 private:
  struct Recording {
    bool seen = false;
    std::unique_ptr<DeviceGraph> graph;
    Tensor loss;
    LmLoss scores;
    std::vector<bool> gradients_after;
  };
  struct Kind {
    int64_t documents = 0;
    bool reduced = false;
    std::vector<bool> gradients;  // of all parameters: is there one?
    friend auto operator<=>(const Kind&, const Kind&) = default;
  };
  [[nodiscard]] Tensor compute(const Batch& batch, const LmLossOptions& loss_options,
                               Reducer* reducer);
  void load(const HostBatch& host, const LmLossOptions& loss_options, int64_t step);
  // Of this kind; nullptr: the micro-batch is to run as it comes.
  [[nodiscard]] Recording* recorded(const LmLossOptions& loss_options, Reducer* reducer);
  void record(Recording& recording, const LmLossOptions& loss_options, Reducer* reducer);
  [[nodiscard]] std::vector<bool> gradients() const;
  void set_gradients(const std::vector<bool>& there);

  Runtime& runtime_;
  const Decoder& model_;
  const ParameterTable& table_;
  MicroBatchOptions options_;
  // What the pools of recordings have taken stays theirs: once begun, they are used to the end.
  const bool pooled_;
  bool recording_;  // not given up
  // Where recordings find their micro-batch, its borders in the tensor of their number.
  Batch inputs_;
  std::map<int64_t, Tensor> cu_seqlens_;
  std::map<Kind, Recording> recordings_;
  std::string note_;
  int64_t launches_ = 0;
  LmLoss scores_;
  double backward_seconds_ = 0;
};

}  // namespace ink

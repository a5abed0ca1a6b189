// The training data of one data-parallel rank: a thread that reads ahead and hands out one
// StepBatch per step. Called by the trainer.
//
// Step k consumes the same packs for every (dp_size, micro_batch_size): slot s of the global batch
// goes to micro-batch s / (dp * m), rank (s / m) % dp, place s % m. N, the number of trained tokens
// of the whole global batch, is added up from the pack tables without communication.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/loader/batch_plan.h"
#include "data/loader/host_batch.h"
#include "data/loader/pack_source.h"
#include "data/loader/sampler.h"

namespace ink {

struct LoaderSource {
  std::shared_ptr<const PackSource> packs;
  std::optional<double> weight;
};

struct LoaderOptions {
  int64_t dp_rank = 0, dp_size = 1;
  int64_t micro_batch_size = 1;  // packs
  int64_t max_length = 0;
  BatchPlan plan;
  uint64_t seed = 0;
  DataOrder order = DataOrder::kShuffled;
  bool numpy_order = false;  // NumPy's over all sources instead (train.compat.sampler)
  ResetPositions reset_positions = ResetPositions::kDocument;
  SlotPadding padding = SlotPadding::kFull;
  int64_t steps = 0;  // last step of the run
  // Length of the run in packs: draws past it are empty packs, so only the last batch can be filled
  // up. Absent: the cursor runs on over epoch ends.
  std::optional<int64_t> total_packs;
  int64_t prefetch = 2;  // steps read ahead
};

struct StepBatch {
  int64_t step = 0;                      // 1-based
  bool skipped = false;                  // data consumed, no update: micro_batches is empty
  std::vector<HostBatch> micro_batches;  // of this rank
  // Of the whole global batch:
  int64_t trained = 0;              // N, the divisor of the loss
  int64_t real_tokens = 0;          // without padding
  int64_t packs = 0;                // without empty ones
  int64_t tokens = 0;               // with padding: what is computed
  std::vector<int64_t> pack_ids;    // unique over sources, in the order of the slots
  std::vector<int64_t> sample_ids;  // pack_ids of this rank's slots; -1 = empty
  double epoch = 0;                 // after this step
  SamplerState state;               // after this step: what a checkpoint keeps
};

class Loader {
 public:
  // Starts at `resume` (a state after some step) or at step 1. Code 2 for an impossible plan.
  Loader(std::vector<LoaderSource> sources, LoaderOptions options,
         const std::optional<SamplerState>& resume = std::nullopt);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next step, or nothing after the last. Throws what the reading thread met.
  [[nodiscard]] std::optional<StepBatch> next();

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace ink

// The validation batches of one rank: the first packs of a source in stored order. No thread and no
// state: it neither sees nor moves the training order.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/loader/host_batch.h"
#include "data/loader/pack_source.h"

namespace ink {

struct EvalLoaderOptions {
  int64_t dp_rank = 0, dp_size = 1;
  int64_t micro_batch_size = 1;
  int64_t max_packs = 0;  // 0: all
  ResetPositions reset_positions = ResetPositions::kDocument;
  SlotPadding padding = SlotPadding::kFull;
};

class EvalLoader {
 public:
  EvalLoader(std::shared_ptr<const PackSource> source, EvalLoaderOptions options);

  // Micro-batches of every rank (the same number everywhere; missing packs are empty ones).
  [[nodiscard]] int64_t size() const;
  [[nodiscard]] HostBatch read(int64_t index) const;
  // Trained tokens over all ranks: the divisor of the loss.
  [[nodiscard]] int64_t trained() const { return trained_; }

 private:
  std::shared_ptr<const PackSource> source_;
  EvalLoaderOptions options_;
  int64_t packs_ = 0, trained_ = 0;
};

}  // namespace ink

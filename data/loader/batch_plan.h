// How many packs each step takes and which steps consume data without an update. Pure arithmetic:
// every rank computes the same plan. Steps count from 1.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "configs/schema/train_options.h"

namespace ink {

struct BatchPlan {
  int64_t global_batch_size = 1;  // packs
  // With a ramp, step k takes min(start + increment * floor((k - 1) / every), global_batch_size).
  std::optional<BatchRamp> ramp;
  std::vector<StepRange> skip;

  // Code 2 unless every size is a multiple of dp_size * micro_batch_size; names the nearest legal
  // values.
  void validate(int64_t dp_size, int64_t micro_batch_size) const;
  [[nodiscard]] int64_t size(int64_t step) const;
  [[nodiscard]] bool skipped(int64_t step) const;
  // Packs consumed by the steps 1..step.
  [[nodiscard]] int64_t packs_through(int64_t step) const;
  // The smallest T with packs_through(T) >= packs.
  [[nodiscard]] int64_t steps_for(int64_t packs) const;
};

}  // namespace ink

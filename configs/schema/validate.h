// Checks between keys: what no single value can be wrong about. Every error is of code 2, at the
// place of the key, with the values.
#pragma once

#include <cstdint>

#include "configs/schema/place.h"
#include "configs/schema/run_options.h"

namespace ink {

// Everything that a file alone decides: exclusive keys, missing keys, architecture, what is not
// built.
void validate(const RunOptions& run, const Places& places = {});

struct BatchSizes {
  int64_t global_batch_size = 0;  // packs of one step over all ranks, after the ramp
  int64_t accumulation = 0;       // micro-batches of one step on one rank
};

// global_batch_size = micro_batch_size * accumulation * data_parallel; must divide exactly,
// otherwise the error names the nearest legal values. The ramp is checked too.
BatchSizes plan_batch(const RunOptions& run, int64_t data_parallel, const Places& places = {});

// T of the schedules: train.steps, or ceil(epochs * packs / global batch) at least 1.
int64_t total_steps(const RunOptions& run, int64_t packs, const BatchSizes& batch);

}  // namespace ink

// A micro-batch from the loader, copied to the device of a rank.
#pragma once

#include "data/loader/host_batch.h"
#include "engine/nn/batch.h"

namespace ink {

// divisor: trained tokens of the whole global batch. step: 0-based number of the global batch.
[[nodiscard]] Batch to_device(Runtime& runtime, const HostBatch& host, double divisor,
                              int64_t step);
// Another micro-batch of the same shapes, in the memory of this one.
void refill(Batch& batch, const HostBatch& host);

}  // namespace ink

// The type of gradients, and where bf16 is refused.
//
// A bf16 gradient is the f32 sum of a micro-batch, rounded to nearest; every further micro-batch
// and every rank is added in f32 and rounded again, by at most 2^-8 of the sum so far. Measured
// (tests/parity/narrow_gradients_test.cpp): n independent addends end 1.2 * 2^-10 * sqrt(n) beside
// their exact sum, two thirds of what stochastic rounding leaves. Where all addends agree, so do
// their roundings: 3% at n = 64; and past 256 the sum stands still, for an addend is below half of
// its step.
#pragma once

#include "configs/schema/optim_options.h"
#include "configs/schema/place.h"
#include "engine/core/dtype.h"

namespace ink {

// The most micro-batches and ranks that may be added one after the other in bf16.
inline constexpr int64_t kMostNarrowAdditions = 64;

[[nodiscard]] constexpr int64_t narrow_additions(int64_t accumulation, int64_t ranks) {
  return accumulation + ranks - 1;
}

// Error(kConfig) where bf16 gradients do not go with the type the model computes in, or where too
// many would be added.
[[nodiscard]] DType gradient_dtype(const OptimSection& optim, DType compute, int64_t accumulation,
                                   int64_t ranks, const Places& places = {});

}  // namespace ink

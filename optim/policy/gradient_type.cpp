#include "optim/policy/gradient_type.h"

#include "engine/core/error.h"

namespace ink {

DType gradient_dtype(const OptimSection& optim, DType compute, int64_t accumulation, int64_t ranks,
                     const Places& places) {
  if (optim.grad_dtype == StateDtype::kF32) return DType::kF32;
  const std::string key = "optim.grad_dtype";
  if (compute != DType::kBF16) {
    throw Error(ExitCode::kConfig, places.of(key),
                fmt::format("{}: expected fp32 for a model that computes in {}, got bf16", key,
                            name_of(compute)),
                "model.dtype: bf16 goes with it, on a card of capability 8.0 or newer");
  }
  if (narrow_additions(accumulation, ranks) > kMostNarrowAdditions) {
    throw Error(
        ExitCode::kConfig, places.of(key),
        fmt::format("{}: expected fp32 or at most {} additions in bf16, got {} micro-batches "
                    "of {} ranks",
                    key, kMostNarrowAdditions, accumulation, ranks),
        "a larger train.micro_batch_size makes fewer of them");
  }
  return DType::kBF16;
}

}  // namespace ink

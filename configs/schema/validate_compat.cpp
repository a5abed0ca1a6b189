#include "configs/schema/validate_compat.h"

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr int64_t kLargestSeed = 0xffffffff;  // of RandomState

void require(bool holds, const Places& places, const std::string& key, const std::string& text) {
  if (!holds)
    throw Error(ExitCode::kConfig, places.of(key),
                fmt::format("{}: expected {} with train.compat.sampler", key, text));
}

}  // namespace

void check_compat(const RunOptions& run, const Places& places) {
  if (!run.train.compat.sampler) return;
  for (size_t i = 0; i < run.data.train.size(); ++i)
    require(!run.data.train[i].weight, places, fmt::format("data.train.{}.weight", i), "none");
  require(run.data.order == DataOrder::kShuffled, places, "data.order", "shuffled");
  require(run.data.packing, places, "data.packing", "true");
  require(!run.train.epochs, places, "train.epochs", "train.steps instead");
  require(!run.train.batch_ramp, places, "train.batch_ramp", "no ramp, which is not built yet,");
  // There, one pack is one micro-batch.
  require(run.train.micro_batch_size == 1, places, "train.micro_batch_size",
          fmt::format("1, got {},", run.train.micro_batch_size));
  require(run.train.seed <= kLargestSeed, places, "train.seed",
          fmt::format("at most {}, got {},", kLargestSeed, run.train.seed));
}

}  // namespace ink

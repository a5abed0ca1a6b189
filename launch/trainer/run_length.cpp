#include "launch/trainer/run_length.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "data/loader/numpy_order.h"

namespace ink {
namespace {

int64_t packs_of_an_epoch(const SessionPlan& plan) {
  if (!plan.run.train.compat.sampler) return plan.data.packs();
  std::vector<int64_t> full;
  for (const LoaderSource& source : plan.data.train) full.push_back(full_packs(*source.packs));
  return NumpyOrder(std::move(full), plan.batches.global_batch_size,
                    static_cast<uint64_t>(plan.run.train.seed))
      .length();
}

int64_t tokens_of_a_step(const SessionPlan& plan) {
  const int64_t size = plan.batches.global_batch_size;
  if (plan.run.data.packing) return size * plan.run.data.max_length;
  const double mean =
      static_cast<double>(plan.data.tokens()) / static_cast<double>(plan.data.packs());
  return std::llround(static_cast<double>(size) * mean);
}

}  // namespace

RunLength run_length(const SessionPlan& plan) {
  RunLength length{.packs_per_epoch = packs_of_an_epoch(plan),
                   .tokens_per_step = tokens_of_a_step(plan)};
  length.steps_per_epoch = plan.run.train.compat.sampler
                               ? length.packs_per_epoch / plan.batches.global_batch_size
                               : plan.data.steps_per_epoch(plan.batches);
  int64_t drawn = plan.batches.packs_through(plan.total_steps);
  if (plan.total_packs) drawn = std::min(drawn, *plan.total_packs);
  length.epochs = static_cast<double>(drawn) / static_cast<double>(length.packs_per_epoch);
  return length;
}

}  // namespace ink

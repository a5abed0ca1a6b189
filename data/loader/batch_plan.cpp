#include "data/loader/batch_plan.h"

#include <algorithm>

#include "engine/core/error.h"

namespace ink {
namespace {

void check_multiple(const char* key, int64_t value, int64_t unit, int64_t dp_size, int64_t micro) {
  if (value > 0 && value % unit == 0) return;
  const int64_t below = std::max(unit, value / unit * unit);
  throw Error(
      ExitCode::kConfig, key,
      fmt::format(
          "expected a multiple of {} ({} data-parallel ranks x micro_batch_size {}), got {}", unit,
          dp_size, micro, value),
      fmt::format("nearest: {} and {}", below, below + unit));
}

}  // namespace

void BatchPlan::validate(int64_t dp_size, int64_t micro_batch_size) const {
  const int64_t unit = dp_size * micro_batch_size;
  CHECK(unit > 0, "dp_size {}, micro_batch_size {}", dp_size, micro_batch_size);
  check_multiple("train.global_batch_size", global_batch_size, unit, dp_size, micro_batch_size);
  if (ramp) {
    check_multiple("train.batch_ramp.start", ramp->start, unit, dp_size, micro_batch_size);
    check_multiple("train.batch_ramp.increment", ramp->increment, unit, dp_size, micro_batch_size);
    if (ramp->every < 1)
      throw Error(ExitCode::kConfig, "train.batch_ramp.every",
                  fmt::format("expected at least 1, got {}", ramp->every));
    if (ramp->start > global_batch_size)
      throw Error(ExitCode::kConfig, "train.batch_ramp.start",
                  fmt::format("expected at most the global batch of {}, got {}", global_batch_size,
                              ramp->start));
  }
  for (const StepRange& range : skip)
    if (range.first < 1 || range.last < range.first)
      throw Error(ExitCode::kConfig, "train.skip_steps",
                  fmt::format("expected a range [first, last] of steps from 1, got [{}, {}]",
                              range.first, range.last));
}

int64_t BatchPlan::size(int64_t step) const {
  CHECK(step >= 1, "steps count from 1, got {}", step);
  if (!ramp) return global_batch_size;
  const int64_t raises = (step - 1) / ramp->every;
  // No product past the final size: a long run would overflow it.
  if (raises >= (global_batch_size - ramp->start) / ramp->increment + 1) return global_batch_size;
  return std::min(global_batch_size, ramp->start + ramp->increment * raises);
}

bool BatchPlan::skipped(int64_t step) const {
  return std::any_of(skip.begin(), skip.end(), [step](const StepRange& range) {
    return range.first <= step && step <= range.last;
  });
}

int64_t BatchPlan::packs_through(int64_t step) const {
  int64_t packs = 0, done = 0;
  // One stretch of equal sizes at a time.
  while (ramp && done < step && size(done + 1) < global_batch_size) {
    const int64_t stretch = std::min(ramp->every - done % ramp->every, step - done);
    packs += stretch * size(done + 1);
    done += stretch;
  }
  return packs + (step - done) * global_batch_size;
}

int64_t BatchPlan::steps_for(int64_t packs) const {
  CHECK(packs >= 0, "{} packs", packs);
  int64_t done = 0, taken = 0;
  while (ramp && taken < packs && size(done + 1) < global_batch_size) {
    taken += size(done + 1);
    ++done;
  }
  const int64_t left = std::max<int64_t>(0, packs - taken);
  return done + left / global_batch_size + (left % global_batch_size != 0);
}

}  // namespace ink

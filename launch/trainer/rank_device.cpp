#include "launch/trainer/rank_device.h"

#include "parallel/comm/device_group.h"

namespace ink {
namespace {

RuntimeOptions runtime_options_of(const RunOptions& run) {
  return {.seed = static_cast<uint64_t>(run.train.seed),
          .memory_limit = run.train.memory_limit ? run.train.memory_limit->value : 0};
}

}  // namespace

RankDevice::RankDevice(const RunOptions& run, const DeviceSeat& seat)
    : runtime_(runtime_options_of(run), seat.make()) {}

void RankDevice::meet(ProcessGroup& world, const GroupOptions& options) {
  group_ = make_device_group(runtime_, world, options);
}

}  // namespace ink

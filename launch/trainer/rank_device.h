// What a rank computes on: its runtime, and the group that carries a card's tensors.
//
// In two steps, because ranks that meet wait for each other: what one of them may find out alone, a
// card that is taken say, is known to all before any of them waits for it.
#pragma once

#include <memory>

#include "configs/schema/run_options.h"
#include "launch/device_choice.h"
#include "parallel/comm/process_group.h"

namespace ink {

class RankDevice {
 public:
  RankDevice(const RunOptions& run, const DeviceSeat& seat);

  // Collective, of all ranks of `world`; options: of the group. A rank that fails at it leaves at
  // once: the others wait for it in the library, and see that it is gone.
  void meet(ProcessGroup& world, const GroupOptions& options);

  [[nodiscard]] Runtime& runtime() { return runtime_; }
  // `world` where that carries the device's tensors itself.
  [[nodiscard]] ProcessGroup& group(ProcessGroup& world) const { return group_ ? *group_ : world; }

 private:
  Runtime runtime_;
  std::unique_ptr<ProcessGroup> group_;
};

}  // namespace ink

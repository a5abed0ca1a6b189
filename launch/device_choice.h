// Which device a rank computes on: the wish of the run file or of --device against what the machine
// has.
//
// auto takes a card where this build finds one, else the processor, and says why. A rank's card is
// the one of its number among the ranks of its machine; where a launcher shows every rank a single
// card, that one. No two ranks share a card; a MIG instance is a card to a single rank, but NCCL
// takes one rank per card, so two of them on instances of one card are refused too. Errors are
// Error(kConfig).
#pragma once

#include <optional>
#include <string>

#include "configs/schema/train_options.h"
#include "engine/core/dtype.h"
#include "engine/tensor/backend.h"
#include "engine/tensor/devices.h"
#include "launch/rendezvous/rendezvous.h"

namespace ink {

struct DeviceSeat {
  Device device = Device::kCpu;
  int ordinal = 0;
  std::optional<DeviceFacts> card;  // none on the processor, and where there is only a plan
  std::string note;                 // a line for the log; empty: nothing to say

  // "NVIDIA H100 80GB HBM3, sm_90, 79.1 GiB, CUDA 13.0, driver for 13.0", or "cpu, 8 threads".
  [[nodiscard]] std::string text() const;
  // Versions of what computes: "oneDNN 2.6.3", on a card with CUDA and its driver.
  [[nodiscard]] std::string libraries() const;
  [[nodiscard]] std::unique_ptr<DeviceBackend> make() const {
    return make_backend(device, ordinal);
  }
};

// What a machine without cards means for `device: cuda`: an error, or the plan of a run elsewhere.
enum class CardNeed { kNow, kPlanOnly };

// Of one process.
[[nodiscard]] DeviceSeat choose_device(DeviceChoice wanted, CardNeed need = CardNeed::kNow);
// Collective: all ranks get the same kind of device, each its own card.
[[nodiscard]] DeviceSeat choose_device(Launch& launch, DeviceChoice wanted,
                                       CardNeed need = CardNeed::kNow);

// The type that the device multiplies fastest in: bf16 where it has it; f16 on cards before sm_80;
// f32 on processors without bf16.
[[nodiscard]] DType native_compute(const DeviceSeat& seat);

// The NVIDIA driver of this machine as the system names it, "580.65.06"; empty: none loaded.
[[nodiscard]] std::string nvidia_driver();

}  // namespace ink

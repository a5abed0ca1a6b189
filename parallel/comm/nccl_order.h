// Sums of NCCL in an order that every run repeats.
//
// On machines with NVSwitch the library lets the switches add (NVLS), in an order that differs from
// call to call: github.com/NVIDIA/nccl/issues/1497. Its other algorithms add in the order of the
// ranks, and it chooses among them by the size of a call and the topology, as every run has them.
#pragma once

namespace ink {

// For train.deterministic; before the first call of the library, which reads its environment then.
// Error(kConfig) where the environment asks for NVLS.
void pin_nccl_order();

}  // namespace ink

// The FLOP rate that this machine reaches in a large GEMM, the denominator of MFU.
//
// Measured once per card and type, or per processor, instruction set, thread count and type, and
// kept in a cache file of the user
// (`$XDG_CACHE_HOME/inkstone/peak.json`, else `~/.cache/...`), which `doctor` refreshes.
#pragma once

#include <optional>

#include "engine/tensor/tensor.h"
#include "launch/device_choice.h"

namespace ink {

// FLOP/s of one rank on its device, on the processor with its present thread count; nothing when it
// has not been measured here.
[[nodiscard]] std::optional<double> cached_peak(const DeviceSeat& seat, DType compute);
// Takes about a second and writes the cache; a cache that cannot be written is no error. The
// runtime is of the seat.
[[nodiscard]] double measure_peak(Runtime& runtime, const DeviceSeat& seat, DType compute);
// The same once a run has reached more than the cache says, which was then measured on a busy
// machine: the larger of a new measurement and what was reached is kept.
[[nodiscard]] double raise_peak(Runtime& runtime, const DeviceSeat& seat, DType compute,
                                double reached);

}  // namespace ink

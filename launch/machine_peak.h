// The FLOP rate that this machine reaches in a large GEMM, the denominator of MFU.
//
// Measured once per card and type, or per processor, instruction set, thread count and type, and
// kept in a cache file of the user (`$XDG_CACHE_HOME/inkstone/peak.json`, else `~/.cache/...`),
// which `doctor` refreshes. A measurement has a backend of its own and leaves nothing behind, so
// that it is part of no run's memory.
#pragma once

#include <optional>

#include "engine/tensor/tensor.h"
#include "launch/device_choice.h"

namespace ink {

// FLOP/s of one rank on its device, on the processor with its present thread count; nothing when it
// has not been measured here.
[[nodiscard]] std::optional<double> cached_peak(const DeviceSeat& seat, DType compute);
// Takes about a second and writes the cache; a cache that cannot be written is no error.
// Error(kOutOfMemory) where the device has no room for it.
[[nodiscard]] double measure_peak(const DeviceSeat& seat, DType compute);
// The same beside a run, which needs its memory more: nothing where there is no room.
[[nodiscard]] std::optional<double> measure_peak_if_it_fits(const DeviceSeat& seat, DType compute);
// Once a run has reached more than the cache says, which was then measured on a busy machine: the
// larger of a new measurement and what was reached is kept.
[[nodiscard]] double raise_peak(const DeviceSeat& seat, DType compute, double reached);

}  // namespace ink

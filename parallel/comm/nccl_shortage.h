// Whether a failure of NCCL is memory that ran out.
//
// The library has no code of its own for it: it returns an unhandled CUDA error or a system error,
// and its last warning says which allocation failed. The texts are those of NCCL 2.28
// (src/include/alloc.h, src/include/checks.h, src/misc/shmutils.cc).
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/core/error.h"

namespace ink {

enum class NcclShortage : uint8_t { kNone, kCard, kHost };

[[nodiscard]] NcclShortage shortage_in(std::string_view last_error);
// The error of NcclShortage::kHost; that of a card has the table of its tensors.
[[nodiscard]] Error host_is_full(const std::string& message);

}  // namespace ink

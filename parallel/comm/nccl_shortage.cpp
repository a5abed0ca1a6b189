#include "parallel/comm/nccl_shortage.h"

#include <algorithm>
#include <array>

namespace ink {
namespace {

// In this order: pinned memory of the host is asked of CUDA too.
struct Sign {
  std::string_view text;
  NcclShortage means;
};
constexpr std::array kSigns = {
    Sign{"Failed to CUDA host alloc", NcclShortage::kHost},
    Sign{"Failed to malloc", NcclShortage::kHost},
    Sign{"Failed to allocate CPU memory", NcclShortage::kHost},
    Sign{"Cannot allocate memory", NcclShortage::kHost},
    Sign{"No space left on device", NcclShortage::kHost},  // a segment in /dev/shm
    Sign{"Failed to CUDA calloc", NcclShortage::kCard},
    Sign{"Failed to CUDA malloc", NcclShortage::kCard},
    Sign{"out of memory", NcclShortage::kCard},
};

}  // namespace

NcclShortage shortage_in(std::string_view last_error) {
  const auto* const found = std::ranges::find_if(kSigns, [&](const Sign& sign) {
    return last_error.find(sign.text) != std::string_view::npos;
  });
  return found == kSigns.end() ? NcclShortage::kNone : found->means;
}

Error host_is_full(const std::string& message) {
  return {ExitCode::kOutOfMemory, "memory", message,
          "NCCL needs memory of the host, in /dev/shm too: give the machine or the container more "
          "(docker: --shm-size)"};
}

}  // namespace ink

#include "engine/kernels/cuda/cudnn_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace ink::cudnn {
namespace {

constexpr size_t kLongest = 240;

// cudnn_graph.h: 4003 and 4004, the first also by its older name; the text of cudaGetErrorString().
constexpr std::array<std::string_view, 3> kOutOfMemory = {"ALLOCATION_FAILED", "ALLOC_FAILED",
                                                          "out of memory"};

constexpr size_t kOldest = 90600, kOldestBackwardOnHopper = 91800;
constexpr int kHopper = 90;

bool is_break(char c) { return c == '\n' || c == '\r'; }

}  // namespace

std::string version_text(size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string too_old(size_t version, int capability, bool backward) {
  const bool exposed = backward && capability == kHopper;
  const size_t oldest = exposed ? kOldestBackwardOnHopper : kOldest;
  if (version >= oldest) return {};
  return fmt::format("cuDNN {} is older than {}{}", version_text(version), version_text(oldest),
                     exposed ? ", the first whose backward is right on cards of 9.0" : "");
}

std::string one_line(std::string_view message) {
  std::string line;
  bool broken = false;
  for (const char c : message) {
    if (is_break(c)) {
      broken = !line.empty();
      continue;
    }
    if (broken) line += "; ";
    broken = false;
    line += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  if (line.size() <= kLongest) return line;
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;  // within UTF-8
  return line.substr(0, end) + "...";
}

std::string refusal_of(const CudaBackend& backend, std::string_view message) {
  const bool ran_out = cudaGetLastError() == cudaErrorMemoryAllocation;
  std::string line = one_line(message);
  if (ran_out || says_out_of_memory(message)) backend.out_of_memory("cuDNN: " + line);
  return line;
}

bool says_out_of_memory(std::string_view message) {
  return std::ranges::any_of(kOutOfMemory, [&](std::string_view sign) {
    return message.find(sign) != std::string_view::npos;
  });
}

}  // namespace ink::cudnn

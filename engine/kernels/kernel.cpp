#include "engine/kernels/kernel.h"

#include <algorithm>
#include <cstring>

namespace ink {
namespace {

// Constant-initialised, so that registrations of other files may run before or after anything here.
constinit std::array<KernelSlotBase*, 256> slots{};
constinit int slot_count = 0;

void remember(KernelSlotBase* slot) {
  for (int i = 0; i < slot_count; ++i) {
    if (slots[static_cast<size_t>(i)] == slot) return;
  }
  CHECK(slot_count < static_cast<int>(slots.size()), "more than {} kernel slots", slots.size());
  slots[static_cast<size_t>(slot_count++)] = slot;
}

}  // namespace

bool KernelSlotBase::add_label(Device device, const char* label, int priority, int& index) {
  remember(this);
  const auto at = static_cast<size_t>(device);
  int& count = count_[at];
  CHECK(count < kMaxCandidates, "slot {} has more than {} candidates", name_, int{kMaxCandidates});
  index = count;
  while (index > 0 && priorities_[at][static_cast<size_t>(index - 1)] < priority) {
    labels_[at][static_cast<size_t>(index)] = labels_[at][static_cast<size_t>(index - 1)];
    priorities_[at][static_cast<size_t>(index)] = priorities_[at][static_cast<size_t>(index - 1)];
    --index;
  }
  labels_[at][static_cast<size_t>(index)] = label;
  priorities_[at][static_cast<size_t>(index)] = priority;
  ++count;
  return true;
}

std::vector<std::string_view> KernelSlotBase::labels(Device device) const {
  const auto at = static_cast<size_t>(device);
  return {labels_[at].begin(), labels_[at].begin() + count_[at]};
}

void KernelSlotBase::choose(Device device, std::string_view label) {
  const auto at = static_cast<size_t>(device);
  chosen_[at] = -1;
  if (label.empty()) return;
  std::string known;
  for (int i = 0; i < count_[at]; ++i) {
    if (label == labels_[at][static_cast<size_t>(i)]) chosen_[at] = i;
    known += fmt::format("{}{}", i ? ", " : "", labels_[at][static_cast<size_t>(i)]);
  }
  if (chosen_[at] < 0) {
    throw Error(ExitCode::kConfig, fmt::format("kernels.{}", name_),
                fmt::format("expected one of {}, got {}", known, label));
  }
}

void KernelSlotBase::missing(Device device) const {
  throw InternalError(fmt::format("[{}] no {} kernel; build with INKSTONE_{}=ON", name_,
                                  name_of(device), device == Device::kCuda ? "CUDA" : "CPU"));
}

void KernelSlotBase::unsupported(Device device) const {
  throw InternalError(
      fmt::format("[{}] no {} kernel takes these arguments", name_, name_of(device)));
}

std::vector<KernelSlotBase*> KernelSlotBase::all() {
  std::vector<KernelSlotBase*> found(slots.begin(), slots.begin() + slot_count);
  std::sort(found.begin(), found.end(),
            [](const auto* a, const auto* b) { return std::strcmp(a->name(), b->name()) < 0; });
  return found;
}

}  // namespace ink

#include "engine/kernels/tuning.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ink {
namespace {

// Filled before main.
std::array<TuningOf, kDeviceCount>& registered() {
  static std::array<TuningOf, kDeviceCount> tables{};
  return tables;
}

}  // namespace

const std::string* KernelTuning::find(const std::string& key) const {
  const auto found = choices_.find(key);
  return found == choices_.end() ? nullptr : &found->second;
}

void KernelTuning::keep(const std::string& key, const std::string& value) { choices_[key] = value; }

void KernelTuning::keep_measured(const std::string& key, const std::string& value) {
  keep(key, value);
  if (on_measured) on_measured(key, value);
}

void KernelTuning::adopt(const Choices& choices) {
  for (const auto& [key, value] : choices) choices_[key] = value;
}

void KernelTuning::refuse(KernelRefusal refusal) {
  const bool known = std::ranges::any_of(refusals_, [&](const KernelRefusal& other) {
    return other.slot == refusal.slot && other.label == refusal.label;
  });
  if (!known) refusals_.push_back(std::move(refusal));
}

std::vector<KernelRefusal> KernelTuning::take_refusals() {
  const auto fresh = refusals_.begin() + static_cast<std::ptrdiff_t>(told_);
  told_ = refusals_.size();
  return {fresh, refusals_.end()};
}

bool register_tuning(Device device, TuningOf tuning) {
  registered()[static_cast<size_t>(device)] = tuning;
  return true;
}

KernelTuning* tuning_of(Runtime& runtime) {
  const TuningOf tuning = registered()[static_cast<size_t>(runtime.device())];
  return tuning == nullptr ? nullptr : &tuning(runtime);
}

}  // namespace ink

// A kernel slot: a name and, per device, labelled candidates that register themselves before main.
//
// The candidate of highest priority whose supports(arguments) is true runs; a label that the run
// file chooses (`kernels: {slot: label}`) goes before all others.
//
// A missing kernel is an error that names slot, device and build option. Slots are constinit, so
// the order of start-up does not matter; choose() is called before any kernel runs.
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <string_view>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/error.h"
#include "engine/core/trace.h"
#include "engine/tensor/tensor.h"

namespace ink {

// What the coverage test, `doctor` and the run file see of a slot, whatever its signature.
class KernelSlotBase {
 public:
  static constexpr int kMaxCandidates = 8;

  constexpr explicit KernelSlotBase(const char* name) : name_(name) {}
  [[nodiscard]] const char* name() const { return name_; }
  [[nodiscard]] bool has(Device device) const { return count_[static_cast<size_t>(device)] > 0; }
  [[nodiscard]] std::vector<std::string_view> labels(Device device) const;
  // Prefers this candidate; Error(kConfig) when there is none of that label. Empty: back to
  // priorities.
  void choose(Device device, std::string_view label);
  // The candidate that ran last on the device, nullptr when none has.
  [[nodiscard]] const char* last_label(Device device) const {
    return last_[static_cast<size_t>(device)].load(std::memory_order_relaxed);
  }

  // Every slot that has a candidate, by name.
  static std::vector<KernelSlotBase*> all();

 protected:
  bool add_label(Device device, const char* label, int priority, int& index);
  [[noreturn]] void missing(Device device) const;
  [[noreturn]] void unsupported(Device device) const;

  const char* name_;
  std::array<int, kDeviceCount> count_{};
  std::array<int, kDeviceCount> chosen_{-1, -1};  // set by choose()
  std::array<std::array<const char*, kMaxCandidates>, kDeviceCount> labels_{};
  std::array<std::array<int, kMaxCandidates>, kDeviceCount> priorities_{};
  mutable std::array<std::atomic<const char*>, kDeviceCount> last_{};
};

template <class Signature>
class KernelSlot;

template <class... A>
class KernelSlot<void(A...)> : public KernelSlotBase {
 public:
  using Function = void (*)(A...);
  struct Options {
    int priority = 0;                         // highest wins
    bool (*supports)(const A&...) = nullptr;  // this machine, these arguments; none = always
  };

  constexpr explicit KernelSlot(const char* name) : KernelSlotBase(name) {}

  bool add(Device device, const char* label, Function run, Options options = {}) {
    int index = 0;
    if (!add_label(device, label, options.priority, index)) return false;
    auto& row = candidates_[static_cast<size_t>(device)];
    for (int i = count_[static_cast<size_t>(device)] - 1; i > index; --i)
      row[static_cast<size_t>(i)] = row[static_cast<size_t>(i - 1)];
    row[static_cast<size_t>(index)] = {run, options.supports};
    return true;
  }

  void operator()(Device device, A... arguments) const {
    const auto at = static_cast<size_t>(device);
    if (count_[at] == 0) missing(device);
    for (int i = chosen_[at] >= 0 ? -1 : 0; i < count_[at]; ++i) {
      const auto which = static_cast<size_t>(i < 0 ? chosen_[at] : i);
      const Candidate& candidate = candidates_[at][which];
      if (candidate.supports == nullptr || candidate.supports(arguments...)) {
        last_[at].store(labels_[at][which], std::memory_order_relaxed);
        const TraceRange range(name_);
        candidate.run(arguments...);
        return;
      }
    }
    unsupported(device);
  }

 private:
  struct Candidate {
    Function run = nullptr;
    bool (*supports)(const A&...) = nullptr;
  };
  std::array<std::array<Candidate, kMaxCandidates>, kDeviceCount> candidates_{};
};

}  // namespace ink

#define DECLARE_KERNEL(slot, ...) \
  inline constinit KernelSlot<__VA_ARGS__> slot { #slot }
#define REGISTER_KERNEL(slot, device, label, function, ...)      \
  [[maybe_unused]] static const bool slot##_##device##_##label = \
      slot.add(Device::device, #label, function, {__VA_ARGS__})

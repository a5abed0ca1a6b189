// What the kernels of one rank chose by measuring, so that another run makes the same choices, and
// what a library refused to do.
//
// A device whose kernels measure (cuBLASLt: one of several algorithms per product) registers its
// table here; the others have none. Kernels find and keep entries; launch fills the table from
// engine/io/choice_file.h before the first step and from a checkpoint on a resume, and stores what
// was measured. Keys and values are the kernels' own text; all of them hold for machine() alone.
// Used by one thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "engine/tensor/runtime.h"

namespace ink {

// A candidate that was to run, and why its library does not do it: another one of the slot does.
struct KernelRefusal {
  std::string slot, label, reason;
};

class KernelTuning {
 public:
  using Choices = std::map<std::string, std::string>;

  explicit KernelTuning(std::string machine) : machine_(std::move(machine)) {}

  // Card, driver and library version, in one line.
  [[nodiscard]] const std::string& machine() const { return machine_; }
  // nullptr when nothing was chosen for that key.
  [[nodiscard]] const std::string* find(const std::string& key) const;
  // What a kernel chose without and with a measurement.
  void keep(const std::string& key, const std::string& value);
  void keep_measured(const std::string& key, const std::string& value);
  // Entries of an earlier run: they go before measurements. A kernel forgets what its library
  // refuses.
  void adopt(const Choices& choices);
  void forget(const std::string& key) { choices_.erase(key); }
  // All in force: what a checkpoint keeps.
  [[nodiscard]] const Choices& choices() const { return choices_; }

  // The first reason of every slot and candidate is kept; another shape may well be taken.
  void refuse(KernelRefusal refusal);
  // Those that came since the last call, for the log.
  [[nodiscard]] std::vector<KernelRefusal> take_refusals();

  bool measure = true;  // false: the library's own first choice, without trying others
  // Hears of every measured entry: what a file for all runs keeps.
  std::function<void(const std::string& key, const std::string& value)> on_measured;

 private:
  std::string machine_;
  Choices choices_;
  std::vector<KernelRefusal> refusals_;
  size_t told_ = 0;  // of refusals_
};

using TuningOf = KernelTuning& (*)(Runtime& runtime);
bool register_tuning(Device device, TuningOf tuning);
// nullptr: the kernels of this device do not measure.
[[nodiscard]] KernelTuning* tuning_of(Runtime& runtime);

}  // namespace ink

// Which kernels were called: counts by slot, while it lives. One at a time, and nothing else
// listens to traces meanwhile.
#pragma once

#include <map>
#include <string>

#include "engine/kernels/kernel.h"

namespace ink {

class KernelCalls {
 public:
  KernelCalls() {
    counts().clear();
    listen_to_traces(&kListener);
  }
  ~KernelCalls() { listen_to_traces(nullptr); }
  KernelCalls(const KernelCalls&) = delete;
  KernelCalls& operator=(const KernelCalls&) = delete;

  [[nodiscard]] int of(const KernelSlotBase& slot) const { return counts()[slot.name()]; }

 private:
  static std::map<std::string, int>& counts() {
    static std::map<std::string, int> all;
    return all;
  }
  static constexpr TraceListener kListener{.begin = [](const char* name) { ++counts()[name]; },
                                           .end = [] {}};
};

}  // namespace ink

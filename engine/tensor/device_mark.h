// Points in the work of a device that goes on while the host is elsewhere: how long the device took
// from one to another, whenever the host comes to look.
//
// Backends of such devices register themselves before main.
#pragma once

#include <memory>

#include "engine/tensor/runtime.h"

namespace ink {

class DeviceMark {
 public:
  virtual ~DeviceMark() = default;
  // From when the device passed `earlier`, a mark of the same runtime. Waits for this mark.
  [[nodiscard]] virtual double seconds_since(const DeviceMark& earlier) const = 0;
};

// Behind the work issued so far; nullptr on a device that is done when the host is.
[[nodiscard]] std::unique_ptr<DeviceMark> mark(Runtime& runtime);

using MarkFactory = std::unique_ptr<DeviceMark> (*)(Runtime& runtime);
bool register_marks(Device device, MarkFactory factory);

}  // namespace ink

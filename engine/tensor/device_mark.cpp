#include "engine/tensor/device_mark.h"

#include <array>

namespace ink {
namespace {

constinit std::array<MarkFactory, kDeviceCount> factories{};

}  // namespace

bool register_marks(Device device, MarkFactory factory) {
  factories[static_cast<size_t>(device)] = factory;
  return true;
}

std::unique_ptr<DeviceMark> mark(Runtime& runtime) {
  const MarkFactory factory = factories[static_cast<size_t>(runtime.device())];
  return factory == nullptr ? nullptr : factory(runtime);
}

}  // namespace ink

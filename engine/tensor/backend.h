// What a device must offer to hold tensors: an allocator, copies, zeroing, a wait.
//
// Owned by the Runtime of one rank. Copies are ordered with the kernels of that rank; host memory
// handed to them may be reused when they return.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/core/device.h"
#include "engine/tensor/allocator.h"

namespace ink {

class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  [[nodiscard]] virtual Device device() const = 0;
  [[nodiscard]] virtual Allocator& allocator() = 0;
  virtual void copy_from_host(void* to, const void* from, int64_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, int64_t bytes) = 0;
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;
  virtual void zero(void* pointer, int64_t bytes) = 0;
  virtual void synchronize() = 0;
};

[[nodiscard]] std::unique_ptr<DeviceBackend> make_host_backend();

// Backends of other devices register themselves before main, as kernels do. ordinal: which card.
using BackendFactory = std::unique_ptr<DeviceBackend> (*)(int ordinal);
bool register_backend(Device device, BackendFactory factory);
[[nodiscard]] bool has_backend(Device device);
// Error(kConfig) names the build option where the device has no backend.
[[nodiscard]] std::unique_ptr<DeviceBackend> make_backend(Device device, int ordinal = 0);

}  // namespace ink

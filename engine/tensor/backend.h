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

}  // namespace ink

// What a device must offer to hold tensors: an allocator, copies, zeroing, a wait.
//
// Owned by the Runtime of one rank. Copies are ordered with the kernels of that rank; host memory
// handed to them may be reused when they return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/core/device.h"
#include "engine/tensor/allocator.h"

namespace ink {

// A copy to the host that goes on while the host does other things.
class HostRead {
 public:
  virtual ~HostRead() = default;
  // Waits for it. The bytes live as long as this object.
  [[nodiscard]] virtual std::span<const std::byte> wait() = 0;
};

// Work of a device that was recorded once and is done again as a whole, with the interludes in it.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch() = 0;
};

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
  // Of what lies there when the work issued so far is done.
  [[nodiscard]] virtual std::unique_ptr<HostRead> read_later(const void* from, int64_t bytes) = 0;
  // Records what `work` issues instead of doing it; nullptr, and `work` is not called, on a device
  // that does not record. Throws what `work` throws, and on a copy to or from the host in it.
  [[nodiscard]] virtual std::unique_ptr<DeviceGraph> record(const std::function<void()>& work) = 0;
  // Work of the host in the middle of what is recorded, a call of a transport say: it is not
  // recorded but done, at this place of the stream, whenever the graph is launched. Outside of
  // record(): done at once.
  virtual void interlude(std::function<void()> work) = 0;
};

[[nodiscard]] std::unique_ptr<DeviceBackend> make_host_backend();

// Backends of other devices register themselves before main, as kernels do. ordinal: which card.
using BackendFactory = std::unique_ptr<DeviceBackend> (*)(int ordinal);
bool register_backend(Device device, BackendFactory factory);
[[nodiscard]] bool has_backend(Device device);
// Error(kConfig) names the build option where the device has no backend.
[[nodiscard]] std::unique_ptr<DeviceBackend> make_backend(Device device, int ordinal = 0);

}  // namespace ink

#include "engine/tensor/backend.h"

#include <cstring>

namespace ink {
namespace {

class HostBackend final : public DeviceBackend {
 public:
  Device device() const override { return Device::kCpu; }
  Allocator& allocator() override { return allocator_; }
  void copy_from_host(void* to, const void* from, int64_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, int64_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void zero(void* pointer, int64_t bytes) override {
    if (bytes > 0) std::memset(pointer, 0, static_cast<size_t>(bytes));
  }
  void synchronize() override {}

 private:
  HostAllocator allocator_;
};

}  // namespace

std::unique_ptr<DeviceBackend> make_host_backend() { return std::make_unique<HostBackend>(); }

}  // namespace ink

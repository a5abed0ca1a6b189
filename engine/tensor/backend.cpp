#include "engine/tensor/backend.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "engine/core/error.h"

namespace ink {
namespace {

class ReadAtOnce final : public HostRead {
 public:
  ReadAtOnce(const void* from, int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    if (bytes > 0) std::memcpy(bytes_.data(), from, bytes_.size());
  }
  std::span<const std::byte> wait() override { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class HostBackend final : public DeviceBackend {
 public:
  Device device() const override { return Device::kCpu; }
  Allocator& allocator() override { return allocator_; }
  void copy_from_host(void* to, const void* from, int64_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, int64_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  // By all threads: most of the time of a first use goes into the system's making of pages.
  void zero(void* pointer, int64_t bytes) override {
    constexpr int64_t kPart = int64_t{4} << 20;
#pragma omp parallel for schedule(static) if (bytes > kPart)
    for (int64_t at = 0; at < bytes; at += kPart) {
      std::memset(static_cast<std::byte*>(pointer) + at, 0,
                  static_cast<size_t>(std::min(kPart, bytes - at)));
    }
  }
  void synchronize() override {}
  std::unique_ptr<HostRead> read_later(const void* from, int64_t bytes) override {
    return std::make_unique<ReadAtOnce>(from, bytes);
  }
  std::unique_ptr<DeviceGraph> record(const std::function<void()>&) override { return nullptr; }
  void interlude(std::function<void()> work) override { work(); }

 private:
  HostAllocator allocator_;
};

constinit std::array<BackendFactory, kDeviceCount> factories{};

}  // namespace

std::unique_ptr<DeviceBackend> make_host_backend() { return std::make_unique<HostBackend>(); }

bool register_backend(Device device, BackendFactory factory) {
  factories[static_cast<size_t>(device)] = factory;
  return true;
}

bool has_backend(Device device) {
  return device == Device::kCpu || factories[static_cast<size_t>(device)] != nullptr;
}

std::unique_ptr<DeviceBackend> make_backend(Device device, int ordinal) {
  if (device == Device::kCpu) return make_host_backend();
  if (!has_backend(device)) {
    throw Error(
        ExitCode::kConfig, "device",
        fmt::format("expected cpu, got {}: this build has no CUDA backend", name_of(device)),
        "build with the preset cuda-release, which needs the CUDA toolkit");
  }
  return factories[static_cast<size_t>(device)](ordinal);
}

}  // namespace ink

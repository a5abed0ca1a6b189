// A card of shapes alone: its allocator hands out addresses that nothing lies behind, and counts
// what it asks the system for. So the memory of a model of any size can be laid out in a test.
#pragma once

#include <memory>

#include "engine/core/error.h"
#include "engine/tensor/backend.h"

namespace ink {

class CountingAllocator final : public Allocator {
 public:
  // capacity: bytes that the system has.
  explicit CountingAllocator(int64_t capacity) : capacity_(capacity) {}
  ~CountingAllocator() override { release_all(); }
  [[nodiscard]] int64_t taken() const { return taken_; }

 protected:
  void* system_allocate(int64_t bytes) override {
    if (taken_ + bytes > capacity_) return nullptr;
    taken_ += bytes;
    // Never the same address twice: segments do not touch.
    next_ += static_cast<uintptr_t>(bytes) + kAlignment;
    return reinterpret_cast<void*>((next_ - static_cast<uintptr_t>(bytes)) / kAlignment *
                                   kAlignment);
  }
  void system_free(void*, int64_t bytes) noexcept override { taken_ -= bytes; }

 private:
  int64_t capacity_, taken_ = 0;
  uintptr_t next_ = uintptr_t{1} << 40;
};

class ShapesOnly final : public DeviceBackend {
 public:
  explicit ShapesOnly(int64_t capacity) : memory_(capacity) {}
  [[nodiscard]] Device device() const override { return Device::kCuda; }
  [[nodiscard]] CountingAllocator& allocator() override { return memory_; }
  void copy_from_host(void*, const void*, int64_t) override {}
  void copy_to_host(void*, const void*, int64_t) override { no_bytes(); }
  void copy(void*, const void*, int64_t) override {}
  void zero(void*, int64_t) override {}
  void synchronize() override {}
  [[nodiscard]] std::unique_ptr<HostRead> read_later(const void*, int64_t) override { no_bytes(); }
  [[nodiscard]] std::unique_ptr<DeviceGraph> record(const std::function<void()>&) override {
    return nullptr;
  }
  void interlude(std::function<void()>) override {}

 private:
  [[noreturn]] static void no_bytes() { throw InternalError("a card of shapes holds no bytes"); }

  CountingAllocator memory_;
};

}  // namespace ink

// Every byte of tensor memory goes through an Allocator, tagged by purpose.
//
// One per rank and device. Freed blocks are kept and handed out again (best fit within a quarter of
// waste), so a training step touches no fresh pages after the first. It reports what is in use, the
// high-water mark per tag and the mark of the sum, and obeys a limit: past it, allocate() throws
// Error(kOutOfMemory) with the table. Thread-safe. Blocks are aligned to 64 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace ink {

enum class MemoryTag : uint8_t {
  kWeights,
  kGradients,
  kOptimizer,
  kActivations,
  kWorkspace,
  kCommunication
};
inline constexpr int kMemoryTagCount = 6;
[[nodiscard]] std::string_view name_of(MemoryTag tag);

struct MemoryReport {
  std::array<int64_t, kMemoryTagCount> in_use{}, peak{};  // bytes per tag
  int64_t total = 0, total_peak = 0;                      // bytes handed out
  int64_t reserved = 0;                     // bytes held from the system, cache included
  int64_t limit = 0;                        // 0 = none
  [[nodiscard]] std::string table() const;  // one line per tag
};

class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  virtual ~Allocator() = default;

  [[nodiscard]] void* allocate(int64_t bytes, MemoryTag tag);
  void free(void* pointer) noexcept;
  void set_limit(int64_t bytes);
  void reset_peaks();
  void release_cache();  // gives cached blocks back to the system
  [[nodiscard]] MemoryReport report() const;

 protected:
  virtual void* system_allocate(int64_t bytes) = 0;  // nullptr when there is none
  virtual void system_free(void* pointer, int64_t bytes) noexcept = 0;
  void release_all() noexcept;  // for destructors of the derived classes

 private:
  struct Block {
    int64_t capacity;
    MemoryTag tag;
  };
  void* take_cached(int64_t bytes, int64_t& capacity);
  void release_cache_locked() noexcept;

  mutable std::mutex mutex_;
  std::multimap<int64_t, void*> cached_;
  std::map<void*, Block> live_;
  MemoryReport report_;
};

// Host memory, 64-byte aligned, in huge pages where the system grants them.
class HostAllocator final : public Allocator {
 public:
  ~HostAllocator() override { release_all(); }

 protected:
  void* system_allocate(int64_t bytes) override;
  void system_free(void* pointer, int64_t bytes) noexcept override;
};

}  // namespace ink

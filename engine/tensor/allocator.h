// Every byte of tensor memory goes through an Allocator, tagged by purpose.
//
// One per rank and device. It cuts blocks out of segments that it keeps (block_pool.h), so a
// training step touches no fresh pages after the first. It reports what is in use, the high-water
// mark per tag and the mark of the sum, and obeys a limit: past it, allocate() throws
// Error(kOutOfMemory) with the table. Thread-safe. Blocks are aligned to kAlignment bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "engine/tensor/block_pool.h"

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
  int64_t reserved = 0;  // bytes ever handed out and not given back to the system, cache included
  int64_t limit = 0;     // 0 = none
  [[nodiscard]] std::string table() const;  // one line per tag
};

class Allocator {
 public:
  static constexpr int64_t kAlignment = 256;
  // What a request of that size takes.
  [[nodiscard]] static int64_t rounded(int64_t bytes);

  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  virtual ~Allocator() = default;

  [[nodiscard]] void* allocate(int64_t bytes, MemoryTag tag);
  void free(void* pointer) noexcept;
  void set_limit(int64_t bytes);
  void reset_peaks();
  void release_cache();  // gives cached blocks back to the system
  // While on, blocks come from pools of their own, which are never given back: a recorded graph
  // writes to its addresses whenever it is launched.
  void use_graph_pools(bool on);
  [[nodiscard]] MemoryReport report() const;

 protected:
  virtual void* system_allocate(int64_t bytes) = 0;  // nullptr when there is none
  virtual void system_free(void* pointer, int64_t bytes) noexcept = 0;
  // Size of a segment that serves large requests, at most: it holds the first of them a whole
  // number of times. A request above half of it gets one of its own.
  [[nodiscard]] virtual int64_t segment_bytes() const { return int64_t{64} << 20; }
  void release_all() noexcept;  // for destructors of the derived classes

 private:
  struct Live {
    MemoryTag tag;
    BlockPool* pool;
  };
  void* take(BlockPool& pool, int64_t bytes);
  [[nodiscard]] bool grow(BlockPool& pool, int64_t bytes);
  void release_cache_locked() noexcept;
  [[nodiscard]] MemoryReport with_reserved() const;

  mutable std::mutex mutex_;
  // Apart, so that a small tensor that stays never lies in the middle of large ones that go.
  BlockPool small_, large_;
  BlockPool graph_small_, graph_large_;
  bool graph_pools_ = false;
  std::unordered_map<void*, Live> live_;
  MemoryReport report_;
};

// Host memory in huge pages where the system grants them. Segments are large, as only the touched
// part of one takes memory.
class HostAllocator final : public Allocator {
 public:
  ~HostAllocator() override { release_all(); }

 protected:
  void* system_allocate(int64_t bytes) override;
  void system_free(void* pointer, int64_t bytes) noexcept override;
  [[nodiscard]] int64_t segment_bytes() const override;
};

}  // namespace ink

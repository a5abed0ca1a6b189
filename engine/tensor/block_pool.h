// Cuts segments of system memory into blocks and joins them again.
//
// A request takes the smallest free block that holds it, the lowest of equals, and leaves the rest
// free; a freed block grows together with free neighbours of its segment. So gradients can lie
// where activations of other sizes lay a moment ago. Sizes and addresses are those of the caller,
// rounded by it; the memory itself is never touched. Not thread-safe: an Allocator guards it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

namespace ink {

class BlockPool {
 public:
  void add_segment(void* segment, int64_t bytes);
  // nullptr when no free block is large enough.
  [[nodiscard]] void* take(int64_t bytes);
  // Returns the size of the block; aborts on a pointer that take() did not return.
  int64_t give(void* block) noexcept;
  // Hands segments without a block in use to `release` and forgets them.
  void drop_free_segments(
      const std::function<void(void* segment, int64_t bytes)>& release) noexcept;
  // Bytes of all segments up to the highest one that was ever in a block: what lies above was never
  // handed out, so no page of it is there on a host.
  [[nodiscard]] int64_t touched() const { return touched_; }

 private:
  struct Segment {
    int64_t bytes = 0, touched = 0;
  };
  struct Block {
    int64_t bytes = 0;
    std::byte* segment = nullptr;
    bool free = false;
  };
  using Blocks = std::map<std::byte*, Block>;

  void join_with_next(Blocks::iterator block) noexcept;
  void mark_free(Blocks::iterator block, bool free) noexcept;

  std::map<std::byte*, Segment> segments_;
  Blocks blocks_;                                  // all, by address
  std::set<std::pair<int64_t, std::byte*>> free_;  // size, address
  int64_t touched_ = 0;
};

}  // namespace ink

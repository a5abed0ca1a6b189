#include "engine/tensor/block_pool.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

namespace ink {

void BlockPool::add_segment(void* segment, int64_t bytes) {
  auto* begin = static_cast<std::byte*>(segment);
  segments_.emplace(begin, Segment{.bytes = bytes});
  const auto block = blocks_.emplace(begin, Block{.bytes = bytes, .segment = begin}).first;
  mark_free(block, true);
}

void BlockPool::mark_free(Blocks::iterator block, bool free) noexcept {
  block->second.free = free;
  if (free) {
    free_.emplace(block->second.bytes, block->first);
  } else {
    free_.erase({block->second.bytes, block->first});
  }
}

void* BlockPool::take(int64_t bytes) {
  const auto fit = free_.lower_bound({bytes, nullptr});
  if (fit == free_.end()) return nullptr;
  const auto block = blocks_.find(fit->second);
  mark_free(block, false);
  Segment& segment = segments_.at(block->second.segment);
  if (const int64_t rest = block->second.bytes - bytes; rest > 0) {
    block->second.bytes = bytes;
    const auto tail =
        blocks_.emplace_hint(std::next(block), block->first + bytes,
                             Block{.bytes = rest, .segment = block->second.segment, .free = true});
    mark_free(tail, true);
  }
  const int64_t end = block->first + bytes - block->second.segment;
  touched_ += std::max<int64_t>(0, end - segment.touched);
  segment.touched = std::max(segment.touched, end);
  return block->first;
}

void BlockPool::join_with_next(Blocks::iterator block) noexcept {
  const auto next = std::next(block);
  if (next == blocks_.end() || !next->second.free || !block->second.free ||
      next->second.segment != block->second.segment)
    return;
  mark_free(next, false);
  mark_free(block, false);
  block->second.bytes += next->second.bytes;
  blocks_.erase(next);
  mark_free(block, true);
}

int64_t BlockPool::give(void* pointer) noexcept {
  const auto block = blocks_.find(static_cast<std::byte*>(pointer));
  if (block == blocks_.end() || block->second.free) std::abort();
  const int64_t bytes = block->second.bytes;
  mark_free(block, true);
  join_with_next(block);
  if (block != blocks_.begin()) join_with_next(std::prev(block));
  return bytes;
}

void BlockPool::drop_free_segments(
    const std::function<void(void* segment, int64_t bytes)>& release) noexcept {
  for (auto it = segments_.begin(); it != segments_.end();) {
    const auto& [begin, segment] = *it;
    const auto block = blocks_.find(begin);
    if (!block->second.free || block->second.bytes != segment.bytes) {
      ++it;
      continue;
    }
    mark_free(block, false);
    blocks_.erase(block);
    touched_ -= segment.touched;
    release(begin, segment.bytes);
    it = segments_.erase(it);
  }
}

}  // namespace ink

#include "engine/tensor/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/tensor/out_of_memory.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace ink {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kSmall = int64_t{512} << 10;  // below: a request of the small pool
constexpr int64_t kSmallSegment = int64_t{4} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;  // cards map their memory in such pages too

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

#ifdef __SANITIZE_ADDRESS__
// Tests under AddressSanitizer: no block has a neighbour in its segment, it is NaN in every float
// type when it is handed out, what rounding adds to it is out of bounds, and all of it once freed.
constexpr bool kWatched = true;

void lend(void* block, int64_t bytes, int64_t with_rounding) {
  auto* begin = static_cast<char*>(block);
  ASAN_UNPOISON_MEMORY_REGION(begin, static_cast<size_t>(bytes));
  std::memset(begin, 0xff, static_cast<size_t>(bytes));
  ASAN_POISON_MEMORY_REGION(begin + bytes, static_cast<size_t>(with_rounding - bytes));
}
void take_back(void* block, int64_t with_rounding) {
  ASAN_POISON_MEMORY_REGION(block, static_cast<size_t>(with_rounding));
}
#else
constexpr bool kWatched = false;
void lend(void*, int64_t, int64_t) {}
void take_back(void*, int64_t) {}
#endif

double mib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

std::string_view name_of(MemoryTag tag) {
  static constexpr std::array<std::string_view, kMemoryTagCount> kNames{
      "weights", "gradients", "optimizer", "activations", "workspace", "communication"};
  return kNames[static_cast<size_t>(tag)];
}

std::string MemoryReport::table() const {
  std::string text;
  for (int i = 0; i < kMemoryTagCount; ++i) {
    const auto at = static_cast<size_t>(i);
    text += fmt::format("  {:<14} {:>10.1f} MiB   peak {:>10.1f} MiB\n",
                        name_of(static_cast<MemoryTag>(i)), mib(in_use[at]), mib(peak[at]));
  }
  text += fmt::format("  {:<14} {:>10.1f} MiB   peak {:>10.1f} MiB", "total", mib(total),
                      mib(total_peak));
  if (limit > 0) text += fmt::format("   limit {:.1f} MiB", mib(limit));
  return text;
}

int64_t Allocator::rounded(int64_t bytes) {
  return round_up(bytes, bytes >= kSmall ? kPage : kAlignment);
}

void* Allocator::allocate(int64_t bytes, MemoryTag tag) {
  if (bytes <= 0) return nullptr;
  const std::lock_guard lock(mutex_);
  const int64_t wanted = rounded(bytes);
  if (report_.limit > 0 && report_.total + wanted > report_.limit) {
    throw OutOfMemory("memory_limit",
                      fmt::format("{:.1f} MiB more for {} do not fit", mib(wanted), name_of(tag)),
                      wanted, with_reserved());
  }
  BlockPool& pool = bytes < kSmall ? (graph_pools_ ? graph_small_ : small_)
                                   : (graph_pools_ ? graph_large_ : large_);
  void* pointer = take(pool, wanted);
  if (pointer == nullptr) {
    throw OutOfMemory("memory",
                      fmt::format("there are no {:.1f} MiB more for {}", mib(wanted), name_of(tag)),
                      wanted, with_reserved());
  }
  lend(pointer, bytes, wanted);
  live_.emplace(pointer, Live{tag, &pool});
  const auto at = static_cast<size_t>(tag);
  report_.in_use[at] += wanted;
  report_.peak[at] = std::max(report_.peak[at], report_.in_use[at]);
  report_.total += wanted;
  report_.total_peak = std::max(report_.total_peak, report_.total);
  return pointer;
}

void* Allocator::take(BlockPool& pool, int64_t bytes) {
  if (void* pointer = pool.take(bytes)) return pointer;
  if (!grow(pool, bytes)) {
    release_cache_locked();
    if (!grow(pool, bytes)) return nullptr;
  }
  return pool.take(bytes);
}

// A whole number of times the request, so that tensors of one size, as layers have them, leave no
// rest that nothing fits into. Where there is no room for that, just the request.
bool Allocator::grow(BlockPool& pool, int64_t bytes) {
  const bool small = &pool == &small_ || &pool == &graph_small_;
  const int64_t usual = small ? std::min(kSmallSegment, segment_bytes()) : segment_bytes();
  const int64_t times = std::max<int64_t>(1, usual / bytes);
  for (const int64_t size : {kWatched ? bytes : round_up(times * bytes, kHugePage), bytes}) {
    if (void* segment = system_allocate(size)) {
      pool.add_segment(segment, size);
      return true;
    }
  }
  return false;
}

void Allocator::free(void* pointer) noexcept {
  if (pointer == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(pointer);
  if (found == live_.end()) std::abort();
  const auto [tag, pool] = found->second;
  live_.erase(found);
  const int64_t bytes = pool->give(pointer);
  take_back(pointer, bytes);
  report_.in_use[static_cast<size_t>(tag)] -= bytes;
  report_.total -= bytes;
}

void Allocator::set_limit(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  report_.limit = bytes;
}

void Allocator::reset_peaks() {
  const std::lock_guard lock(mutex_);
  report_.peak = report_.in_use;
  report_.total_peak = report_.total;
}

void Allocator::release_cache_locked() noexcept {
  const auto release = [this](void* segment, int64_t bytes) { system_free(segment, bytes); };
  small_.drop_free_segments(release);
  large_.drop_free_segments(release);
}

void Allocator::release_cache() {
  const std::lock_guard lock(mutex_);
  release_cache_locked();
}

void Allocator::release_all() noexcept {
  const std::lock_guard lock(mutex_);
  release_cache_locked();
  const auto release = [this](void* segment, int64_t bytes) { system_free(segment, bytes); };
  graph_small_.drop_free_segments(release);
  graph_large_.drop_free_segments(release);
}

void Allocator::use_graph_pools(bool on) {
  const std::lock_guard lock(mutex_);
  graph_pools_ = on;
}

MemoryReport Allocator::with_reserved() const {
  MemoryReport report = report_;
  for (const BlockPool* pool : {&small_, &large_, &graph_small_, &graph_large_})
    report.reserved += pool->touched();
  return report;
}

MemoryReport Allocator::report() const {
  const std::lock_guard lock(mutex_);
  return with_reserved();
}

void* HostAllocator::system_allocate(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const auto size = static_cast<size_t>(round_up(bytes, alignment));
  void* pointer = std::aligned_alloc(static_cast<size_t>(alignment), size);
  if (pointer != nullptr && bytes >= kHugePage) madvise(pointer, size, MADV_HUGEPAGE);
  return pointer;
}

void HostAllocator::system_free(void* pointer, int64_t) noexcept { std::free(pointer); }

int64_t HostAllocator::segment_bytes() const { return int64_t{1} << 30; }

}  // namespace ink

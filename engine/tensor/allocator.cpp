#include "engine/tensor/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

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

void* Allocator::allocate(int64_t bytes, MemoryTag tag) {
  if (bytes <= 0) return nullptr;
  const std::lock_guard lock(mutex_);
  // Rounded before the look-up: a block must be found again by the request it was made for.
  const int64_t wanted = round_up(bytes, bytes >= kHugePage ? kHugePage : kAlignment);
  if (report_.limit > 0 && report_.total + wanted > report_.limit) {
    throw Error(ExitCode::kOutOfMemory, "memory_limit",
                fmt::format("{:.1f} MiB more for {} do not fit\n{}", mib(wanted), name_of(tag),
                            report_.table()),
                "lower train.micro_batch_size or data.max_length, set train.recompute: full, or "
                "optim.state_dtype: bf16");
  }
  int64_t capacity = 0;
  void* pointer = take_cached(wanted, capacity);
  if (pointer == nullptr) {
    capacity = wanted;
    pointer = system_allocate(capacity);
    if (pointer == nullptr) {
      release_cache_locked();
      pointer = system_allocate(capacity);
    }
    if (pointer == nullptr) {
      throw Error(ExitCode::kOutOfMemory, "memory",
                  fmt::format("the system has no {:.1f} MiB more for {}\n{}", mib(capacity),
                              name_of(tag), report_.table()));
    }
    report_.reserved += capacity;
  }
  live_.emplace(pointer, Block{capacity, tag});
  const auto at = static_cast<size_t>(tag);
  report_.in_use[at] += capacity;
  report_.peak[at] = std::max(report_.peak[at], report_.in_use[at]);
  report_.total += capacity;
  report_.total_peak = std::max(report_.total_peak, report_.total);
  return pointer;
}

void* Allocator::take_cached(int64_t bytes, int64_t& capacity) {
  const auto found = cached_.lower_bound(bytes);
  if (found == cached_.end() || found->first > bytes + bytes / 4 + kAlignment) return nullptr;
  capacity = found->first;
  void* pointer = found->second;
  cached_.erase(found);
  return pointer;
}

void Allocator::free(void* pointer) noexcept {
  if (pointer == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(pointer);
  if (found == live_.end()) std::abort();
  const auto [capacity, tag] = found->second;
  live_.erase(found);
  report_.in_use[static_cast<size_t>(tag)] -= capacity;
  report_.total -= capacity;
  cached_.emplace(capacity, pointer);
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
  for (const auto& [capacity, pointer] : cached_) {
    system_free(pointer, capacity);
    report_.reserved -= capacity;
  }
  cached_.clear();
}

void Allocator::release_cache() {
  const std::lock_guard lock(mutex_);
  release_cache_locked();
}

void Allocator::release_all() noexcept {
  const std::lock_guard lock(mutex_);
  release_cache_locked();
}

MemoryReport Allocator::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

void* HostAllocator::system_allocate(int64_t bytes) {
  const bool huge = bytes >= kHugePage;
  void* pointer = std::aligned_alloc(static_cast<size_t>(huge ? kHugePage : kAlignment),
                                     static_cast<size_t>(bytes));
  if (pointer != nullptr && huge) madvise(pointer, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return pointer;
}

void HostAllocator::system_free(void* pointer, int64_t) noexcept { std::free(pointer); }

}  // namespace ink

#include "engine/tensor/allocator.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "engine/core/error.h"

namespace ink {
namespace {

int64_t at(const std::array<int64_t, kMemoryTagCount>& bytes, MemoryTag tag) {
  return bytes[static_cast<size_t>(tag)];
}

TEST(Allocator, CountsByTagAndRemembersThePeaks) {
  HostAllocator allocator;
  void* a = allocator.allocate(6400, MemoryTag::kWeights);
  void* b = allocator.allocate(640, MemoryTag::kActivations);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
  allocator.free(a);
  const MemoryReport report = allocator.report();
  EXPECT_EQ(at(report.in_use, MemoryTag::kWeights), 0);
  EXPECT_EQ(at(report.peak, MemoryTag::kWeights), 6400);
  EXPECT_EQ(at(report.in_use, MemoryTag::kActivations), 640);
  EXPECT_EQ(report.total_peak, 7040);
  allocator.reset_peaks();
  EXPECT_EQ(allocator.report().total_peak, 640);
  allocator.free(b);
  EXPECT_EQ(allocator.report().total, 0);
}

TEST(Allocator, HandsFreedBlocksOutAgain) {
  HostAllocator allocator;
  void* first = allocator.allocate(1 << 20, MemoryTag::kActivations);
  allocator.free(first);
  EXPECT_EQ(allocator.allocate(1000000, MemoryTag::kActivations), first);  // within a quarter
  allocator.free(first);
  void* small = allocator.allocate(1000, MemoryTag::kActivations);
  EXPECT_NE(small, first);
  EXPECT_GE(allocator.report().reserved, (1 << 20) + 1000);
  allocator.release_cache();
  EXPECT_LT(allocator.report().reserved, 1 << 20);
  allocator.free(small);
}

TEST(Allocator, StopsAtItsLimitAndGoesOnAfterIt) {
  HostAllocator allocator;
  allocator.set_limit(10000);
  void* a = allocator.allocate(8000, MemoryTag::kActivations);
  EXPECT_THROW((void)allocator.allocate(4000, MemoryTag::kActivations), Error);
  allocator.free(a);
  void* b = allocator.allocate(4000, MemoryTag::kActivations);
  EXPECT_NE(b, nullptr);
  allocator.free(b);
}

TEST(Allocator, ServesSeveralThreads) {
  HostAllocator allocator;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&allocator, t] {
      for (int i = 1; i < 500; ++i) {
        auto* block =
            static_cast<int*>(allocator.allocate(64 * (i % 7 + 1), MemoryTag::kWorkspace));
        *block = t;
        ASSERT_EQ(*block, t);
        allocator.free(block);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(allocator.report().total, 0);
}

}  // namespace
}  // namespace ink

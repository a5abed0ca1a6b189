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
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % Allocator::kAlignment, 0u);
  allocator.free(a);
  const MemoryReport report = allocator.report();
  EXPECT_EQ(at(report.in_use, MemoryTag::kWeights), 0);
  EXPECT_EQ(at(report.peak, MemoryTag::kWeights), 6400);
  EXPECT_EQ(at(report.in_use, MemoryTag::kActivations), Allocator::rounded(640));
  EXPECT_EQ(report.total_peak, 6400 + Allocator::rounded(640));
  allocator.reset_peaks();
  EXPECT_EQ(allocator.report().total_peak, Allocator::rounded(640));
  allocator.free(b);
  EXPECT_EQ(allocator.report().total, 0);
}

TEST(Allocator, HandsFreedMemoryOutAgainInOtherSizes) {
  HostAllocator allocator;
  void* first = allocator.allocate(8 << 20, MemoryTag::kActivations);
  void* second = allocator.allocate(8 << 20, MemoryTag::kActivations);
  allocator.free(first);
  allocator.free(second);
  const int64_t reserved = allocator.report().reserved;
  EXPECT_GE(reserved, 16 << 20);
  std::vector<void*> smaller;
  for (int i = 0; i < 8; ++i) smaller.push_back(allocator.allocate(2 << 20, MemoryTag::kGradients));
  EXPECT_EQ(allocator.report().reserved, reserved);
  for (void* block : smaller) allocator.free(block);
  allocator.release_cache();
  EXPECT_EQ(allocator.report().reserved, 0);
}

TEST(Allocator, ASmallTensorThatStaysHoldsNoSegmentOfLargeOnes) {
  HostAllocator allocator;
  void* large = allocator.allocate(8 << 20, MemoryTag::kActivations);
  void* small = allocator.allocate(1000, MemoryTag::kActivations);
  allocator.free(large);
  allocator.release_cache();
  EXPECT_LT(allocator.report().reserved, 8 << 20);
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

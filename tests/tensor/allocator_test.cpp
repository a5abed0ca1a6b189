#include "engine/tensor/allocator.h"

#include <gtest/gtest.h>

namespace ink {
namespace {

// A training step asks for the same sizes again and again: after the first, no size may reach the
// system, on either side of a huge page.
TEST(HostAllocator, AFreedBlockServesTheSameRequestAgain) {
  for (const int64_t bytes : {int64_t{1}, int64_t{1000}, (int64_t{2} << 20) - 1,
                              (int64_t{2} << 20) + 1, int64_t{4700000}, int64_t{9} << 20}) {
    HostAllocator allocator;
    void* first = allocator.allocate(bytes, MemoryTag::kWorkspace);
    allocator.free(first);
    const int64_t reserved = allocator.report().reserved;
    void* again = allocator.allocate(bytes, MemoryTag::kWorkspace);
    EXPECT_EQ(again, first) << bytes << " bytes";
    EXPECT_EQ(allocator.report().reserved, reserved) << bytes << " bytes";
    allocator.free(again);
  }
}

}  // namespace
}  // namespace ink

#include "engine/tensor/block_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace ink {
namespace {

class BlockPoolTest : public testing::Test {
 protected:
  std::vector<std::byte> memory_ = std::vector<std::byte>(4096);
  BlockPool pool_;
};

TEST_F(BlockPoolTest, FreedNeighboursServeALargerRequest) {
  pool_.add_segment(memory_.data(), 1024);
  void* a = pool_.take(256);
  void* b = pool_.take(256);
  void* c = pool_.take(512);
  EXPECT_EQ(pool_.take(256), nullptr);
  EXPECT_EQ(pool_.give(a), 256);
  EXPECT_EQ(pool_.take(512), nullptr);
  EXPECT_EQ(pool_.give(b), 256);
  EXPECT_EQ(pool_.take(512), a);
  EXPECT_EQ(pool_.give(c), 512);
  EXPECT_EQ(pool_.take(512), c);
}

TEST_F(BlockPoolTest, TakesTheSmallestBlockThatHoldsTheRequest) {
  pool_.add_segment(memory_.data(), 4096);
  void* large = pool_.take(1024);
  void* wall = pool_.take(256);
  void* small = pool_.take(512);
  void* end = pool_.take(4096 - 1024 - 256 - 512);
  pool_.give(large);
  pool_.give(small);
  EXPECT_EQ(pool_.take(300), small);
  EXPECT_EQ(pool_.take(1024), large);
  EXPECT_NE(wall, end);
}

TEST_F(BlockPoolTest, SegmentsThatTouchNeverJoinAndLeaveOnlyWhenEmpty) {
  pool_.add_segment(memory_.data(), 1024);
  pool_.add_segment(memory_.data() + 1024, 1024);
  EXPECT_EQ(pool_.take(2048), nullptr);
  void* a = pool_.take(1000);
  EXPECT_EQ(pool_.touched(), 1000);
  std::vector<void*> dropped;
  const auto note = [&](void* segment, int64_t) { dropped.push_back(segment); };
  pool_.drop_free_segments(note);
  EXPECT_EQ(dropped, std::vector<void*>{memory_.data() + 1024});
  pool_.give(a);
  pool_.drop_free_segments(note);
  EXPECT_EQ(dropped.size(), 2u);
  EXPECT_EQ(pool_.touched(), 0);
  EXPECT_EQ(pool_.take(1), nullptr);
}

TEST_F(BlockPoolTest, BlocksInUseNeverOverlapAndAllSpaceComesBack) {
  pool_.add_segment(memory_.data(), 4096);
  std::mt19937 random(1);
  std::vector<std::pair<std::byte*, int64_t>> live;
  for (int i = 0; i < 5000; ++i) {
    const int64_t bytes = 16 * (1 + random() % 40);
    if (auto* block = static_cast<std::byte*>(pool_.take(bytes))) {
      for (const auto& [other, size] : live)
        ASSERT_TRUE(block + bytes <= other || other + size <= block);
      live.emplace_back(block, bytes);
    }
    if (live.size() > 6) {
      const size_t which = random() % live.size();
      ASSERT_EQ(pool_.give(live[which].first), live[which].second);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  for (const auto& [block, bytes] : live) pool_.give(block);
  EXPECT_EQ(pool_.take(4096), memory_.data());
}

}  // namespace
}  // namespace ink

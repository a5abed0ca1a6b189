#include "engine/core/hash64.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace ink {
namespace {

std::vector<std::byte> some_bytes(size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 37 + i / 256);
  return bytes;
}

TEST(Hash64, EveryBitOfEveryByteCounts) {
  const std::vector<std::byte> bytes = some_bytes(203);
  std::set<uint64_t> seen = {hash64(bytes)};
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<std::byte> other = bytes;
      other[i] ^= static_cast<std::byte>(1 << bit);
      EXPECT_TRUE(seen.insert(hash64(other)).second) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(Hash64, ZerosAtTheEndAndSwappedWordsCount) {
  std::set<uint64_t> seen;
  for (size_t count = 0; count < 100; ++count)
    EXPECT_TRUE(seen.insert(hash64(std::vector<std::byte>(count))).second) << count;
  const std::vector<std::byte> bytes = some_bytes(64);
  std::vector<std::byte> swapped = bytes;
  std::swap_ranges(swapped.begin(), swapped.begin() + 8, swapped.begin() + 8);
  EXPECT_NE(hash64(swapped), hash64(bytes));
  std::swap_ranges(swapped.begin(), swapped.begin() + 32, swapped.begin() + 32);
  EXPECT_NE(hash64(swapped), hash64(bytes));
}

TEST(Hash64, DoesNotDependOnHowTheBytesCome) {
  const std::vector<std::byte> bytes = some_bytes(211);
  for (const size_t step : {1, 7, 31, 32, 33, 100, 500}) {
    Hash64 hash;
    for (size_t at = 0; at < bytes.size(); at += step)
      hash.update(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
    EXPECT_EQ(hash.finish(), hash64(bytes)) << step;
  }
}

}  // namespace
}  // namespace ink

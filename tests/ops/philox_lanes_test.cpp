// The words of a run of blocks are those of philox(), block by block.
#include "engine/kernels/cpu/philox_lanes.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/core/cpu_features.h"

namespace ink {
namespace {

using Words = void (*)(PhiloxKey, uint64_t, uint64_t, uint64_t, uint64_t, int64_t, uint32_t*);

void expect_words(Words words, int64_t blocks, uint64_t lo_step, uint64_t hi_step) {
  constexpr uint32_t kGuard = 0x5eed5eed;
  const PhiloxKey key{0xfffffff0u, 0x12345678u};
  // Both counters pass from 32 bits to more, the low one at 2^64 too.
  const uint64_t lo = lo_step == 1 ? ~uint64_t{0} - 2 : 0xfffffffeull, hi = 0xfffffffdull;
  std::vector<uint32_t> made(static_cast<size_t>(4 * blocks + 16), kGuard);
  words(key, lo, lo_step, hi, hi_step, blocks, made.data());
  for (int64_t i = 0; i < blocks; ++i) {
    const auto at = static_cast<uint64_t>(i);
    const PhiloxBlock block = philox(key, lo + lo_step * at, hi + hi_step * at);
    for (size_t k = 0; k < 4; ++k)
      ASSERT_EQ(made[4 * at + k], block.v[k]) << "word " << k << " of block " << i;
  }
  for (size_t at = static_cast<size_t>(4 * blocks); at < made.size(); ++at)
    ASSERT_EQ(made[at], kGuard) << "written past " << blocks << " blocks";
}

TEST(PhiloxLanes, WordsAreThoseOfEveryBlock) {
  std::vector<Words> candidates{philox_words};
  if (has_avx512()) candidates.push_back(philox_words_avx512);
  for (const Words words : candidates) {
    for (int64_t blocks = 0; blocks <= 19; ++blocks) {
      expect_words(words, blocks, 1, 0);
      expect_words(words, blocks, 0, 1);
      expect_words(words, blocks, 3, 5);
    }
  }
}

}  // namespace
}  // namespace ink

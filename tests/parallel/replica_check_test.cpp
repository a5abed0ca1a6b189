// Replicas that are equal, and those that are not, over ranks as threads.
#include "parallel/data_parallel/replica_check.h"

#include <gtest/gtest.h>

#include "tests/support/group_ranks.h"
#include "tests/support/values.h"

namespace ink {
namespace {

// What the ranks of a group find when `edit` changed the second of three tensors on some of them.
std::vector<std::optional<ReplicaDifference>> find(
    int ranks, const std::function<void(float* values, int rank)>& edit) {
  std::vector<std::optional<ReplicaDifference>> found(static_cast<size_t>(ranks));
  run_group(ranks, [&](ProcessGroup& group) {
    Runtime runtime;
    ReplicaHashes hashes;
    for (const char* name : {"first", "second", "third"}) {
      const Tensor tensor = from_values(runtime, normal_values(name, 35), {5, 7}, DType::kF32);
      if (name == std::string("second")) edit(tensor.data<float>(), group.rank());
      hashes.add(name, tensor);
    }
    hashes.add("text", "the same");
    found[static_cast<size_t>(group.rank())] = compare_replicas(hashes, group);
  });
  return found;
}

TEST(ReplicaCheck, EqualReplicasDifferNowhere) {
  for (const int ranks : {1, 2, 4}) {
    for (const auto& difference : find(ranks, [](float*, int) {}))
      EXPECT_FALSE(difference.has_value()) << ranks;
  }
}

TEST(ReplicaCheck, OneBitOfOneRankIsNamedOnEveryRank) {
  for (const int ranks : {2, 4}) {
    for (const int odd : {0, ranks - 1}) {
      const auto found = find(ranks, [&](float* values, int rank) {
        if (rank == odd) reinterpret_cast<uint32_t&>(values[34]) ^= 1;
      });
      for (const auto& difference : found) {
        ASSERT_TRUE(difference.has_value());
        EXPECT_EQ(difference->name, "second");
        EXPECT_EQ(difference->count, 1u);
        const auto other = static_cast<size_t>(odd == 0 ? 1 : 0);
        for (size_t r = 0; r < difference->hashes.size(); ++r)
          EXPECT_EQ(difference->hashes[r] == difference->hashes[other], r != size_t(odd)) << r;
      }
    }
  }
}

TEST(ReplicaCheck, HashesAreListedByTheirRanks) {
  EXPECT_EQ(describe_hashes({1, 0xabc, 1, 1}),
            "0000000000000001 on ranks 0, 2 and 3, 0000000000000abc on rank 1");
  EXPECT_EQ(describe_hashes({2, 2, 3, 3}),
            "0000000000000002 on ranks 0 and 1, 0000000000000003 on ranks 2 and 3");
}

}  // namespace
}  // namespace ink

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "data/loader/host_batch.h"
#include "data/packing/cutter.h"
#include "data/packing/pack.h"
#include "data/packing/permutation.h"

namespace ink {
namespace {

using Ints = std::vector<int32_t>;
constexpr int32_t kNo = kIgnoreLabel;

// Documents [10 11 12] [20 21] [30 31 32 33 34] in packs of 4, worked out by hand:
//   10 11 12 20 | 21 30 31 32 | 33 34
TEST(PackCutter, RowsByHand) {
  std::vector<PackRow> rows;
  PackCutter cutter(4, [&](const PackRow& row) { rows.push_back(row); });
  cutter.add(std::vector<uint8_t>{1, 0, 0});
  cutter.add(std::vector<uint8_t>{1, 0});
  cutter.add(std::vector<uint8_t>{1, 0, 1, 0, 0});
  cutter.finish();
  // Labels: 11 12 - 21 | - 31 - 33 | 34 -; the 32 of the third document is masked.
  const std::vector<PackRow> expected = {
      {0, 0, 0, 4, 3},
      {1, 1, 4, 4, 2},
      {2, 3, 8, 2, 1},
  };
  EXPECT_EQ(rows, expected);
  EXPECT_EQ(cutter.tokens(), 10u);
  EXPECT_EQ(cutter.documents(), 3u);
}

TEST(PackCutter, NoEmptyPackAfterAnExactFit) {
  std::vector<PackRow> rows;
  PackCutter cutter(2, [&](const PackRow& row) { rows.push_back(row); });
  cutter.add(std::vector<uint8_t>{0, 0});
  cutter.add(std::vector<uint8_t>{0, 0});
  cutter.finish();
  EXPECT_EQ(rows, (std::vector<PackRow>{{0, 0, 0, 2, 1}, {1, 0, 2, 2, 1}}));
}

TokenRange second_pack() {
  TokenRange range;
  range.ids = {21, 30, 31, 32};
  range.untrained = {0, 1, 0, 1};
  range.starts = {0, 1};
  range.sources = {0, 2};
  range.origins = {5, 6};
  range.continues = true;
  range.next_label = 33;
  return range;
}

TEST(MakePack, LabelsAndPositionsByHand) {
  const Pack pack = make_pack(second_pack(), ResetPositions::kDocument);
  EXPECT_EQ(pack.tokens, (Ints{21, 30, 31, 32}));
  EXPECT_EQ(pack.labels, (Ints{kNo, 31, kNo, 33}));
  // Position 0 again after the cut (21 is the second token of its document) and at the document.
  EXPECT_EQ(pack.positions, (Ints{0, 0, 1, 2}));
  EXPECT_EQ(pack.trained, 2);
  EXPECT_TRUE(pack.continues);
}

TEST(MakePack, PositionsRunOnWithoutReset) {
  const Pack pack = make_pack(second_pack(), ResetPositions::kNever);
  EXPECT_EQ(pack.positions, (Ints{0, 1, 2, 3}));
  EXPECT_EQ(pack.labels, (Ints{kNo, 31, kNo, 33}));
}

TEST(MakePack, FirstTokenOfADocumentIsNeverATarget) {
  TokenRange range;
  range.ids = {1, 5, 1, 6};
  range.untrained = {0, 0, 0, 0};
  range.starts = {0, 2};
  const Pack pack = make_pack(range, ResetPositions::kDocument);
  EXPECT_EQ(pack.labels, (Ints{5, kNo, 6, kNo}));
}

TEST(HostBatch, PadsEveryPackWithItsOwnDocument) {
  const Pack pack = make_pack(second_pack(), ResetPositions::kDocument);
  const std::vector<BatchSlot> slots = {{nullptr, 2, -1}, {&pack, 3, 17}};
  const HostBatch batch = make_host_batch(slots, 6);
  EXPECT_EQ(batch.tokens, (Ints{0, 0, 0, 0, 0, 0, 21, 30, 31, 32, 0, 0}));
  EXPECT_EQ(batch.labels, (Ints{kNo, kNo, kNo, kNo, kNo, kNo, kNo, 31, kNo, 33, kNo, kNo}));
  EXPECT_EQ(batch.positions, (Ints{0, 1, 2, 3, 4, 5, 0, 0, 1, 2, 0, 1}));
  EXPECT_EQ(batch.documents, (Ints{0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 3}));
  EXPECT_EQ(batch.cu_seqlens, (Ints{0, 6, 7, 10, 12}));
  EXPECT_EQ(batch.source_ids, (Ints{-1, 0, 2, -1}));
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{-1, 17}));
  std::vector<int64_t> ids;
  for (int64_t i = 12; i < 24; ++i) ids.push_back(i);
  EXPECT_EQ(batch.token_ids, ids);
  EXPECT_EQ(batch.trained, 2);
  EXPECT_EQ(batch.real_tokens, 4);
  EXPECT_EQ(batch.max_seqlen, 6);
  EXPECT_TRUE(batch.loss_weight.empty());
}

TEST(Permutation, IsABijectionForEverySmallSize) {
  for (uint64_t n = 1; n < 300; ++n) {
    const Permutation order(n, 42, "packs", 3);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) {
      ASSERT_LT(order.at(i), n);
      seen.insert(order.at(i));
    }
    ASSERT_EQ(seen.size(), n) << n;
  }
}

TEST(Permutation, DependsOnSeedPurposeAndStream) {
  const auto row = [](uint64_t seed, const char* purpose, uint64_t stream) {
    const Permutation order(1000, seed, purpose, stream);
    std::vector<uint64_t> values;
    for (uint64_t i = 0; i < 1000; ++i) values.push_back(order.at(i));
    return values;
  };
  const auto base = row(1, "packs", 0);
  EXPECT_EQ(base, row(1, "packs", 0));
  EXPECT_NE(base, row(2, "packs", 0));
  EXPECT_NE(base, row(1, "documents", 0));
  EXPECT_NE(base, row(1, "packs", 1));
  // Neighbours go far apart: the mean distance of a random order is n / 3.
  double distance = 0;
  for (size_t i = 1; i < base.size(); ++i)
    distance += base[i] > base[i - 1] ? base[i] - base[i - 1] : base[i - 1] - base[i];
  EXPECT_NEAR(distance / 999, 333, 40);
}

}  // namespace
}  // namespace ink

// data.packing: false: samples of different lengths side by side are what each is alone, on one
// rank, over micro-batches and over ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "data/loader/loader.h"
#include "parallel/comm/self_group.h"
#include "tests/data/store_support.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

constexpr int64_t kLength = 24, kGlobalBatch = 12;

struct Layout {
  int data = 1;
  int64_t micro_batch_size = 1;  // samples
  SlotPadding padding = SlotPadding::kNone;
  double dropout = 0;
  int64_t samples = kGlobalBatch;  // of the step; the rest of its slots are empty
};

struct Result {
  double loss = 0;
  NamedValues gradients;
};

double relative(double got, double want) { return std::abs(got - want) / std::abs(want); }

class UnpackedParity : public testing::Test {
 protected:
  void SetUp() override {
    const auto vocabulary = static_cast<int32_t>(golden_.options().vocab_size);
    std::vector<TokenDocument> documents;
    for (int d = 0; d < 30; ++d) {
      TokenDocument document;
      for (int i = 0; i < 2 + d * 17 % 61; ++i) {  // up to three samples
        document.ids.push_back((d * 31 + i * 7) % vocabulary);
        document.untrained.push_back(i % 6 == 5);
      }
      documents.push_back(document);
    }
    StoreHeader header = test::small_header(kLength);
    header.vocab_size = vocabulary;
    test::write_store(folder_ / "a.h5", documents, header);
    source_ = sample_source(TokenStore::open(folder_ / "a.h5"), Split::kTrain, kLength);
  }

  [[nodiscard]] StepBatch read(const Layout& layout, int rank) const {
    LoaderOptions o;
    o.dp_rank = rank;
    o.dp_size = layout.data;
    o.micro_batch_size = layout.micro_batch_size;
    o.max_length = kLength;
    o.plan.global_batch_size = kGlobalBatch;
    o.seed = 3;
    o.padding = layout.padding;
    o.steps = 1;
    o.total_packs = layout.samples;
    return Loader({{source_, {}}}, o).next().value();
  }

  // One step of the layout; `edit` may spoil what a rank sees.
  [[nodiscard]] Result step(const Layout& layout,
                            const std::function<void(HostBatch&)>& edit = {}) const {
    std::vector<Result> ranks(static_cast<size_t>(layout.data));
    run_group(layout.data, [&](ProcessGroup& group) {
      TraineeOptions options;
      options.dropout = layout.dropout;
      Trainee trainee(golden_, group, options);
      StepBatch batch = read(layout, group.rank());
      if (edit)
        for (HostBatch& micro_batch : batch.micro_batches) edit(micro_batch);
      const StepResult result = trainee.step().run(batch.micro_batches, batch.trained, 1);
      ranks[static_cast<size_t>(group.rank())] = {result.loss, trainee.gradients()};
    });
    for (const Result& rank : ranks) EXPECT_EQ(rank.gradients, ranks[0].gradients);
    return ranks[0];
  }

  void expect_equal(const Layout& layout, const Result& want) const {
    const Result got = step(layout);
    EXPECT_LE(relative(got.loss, want.loss), 1e-6);
    expect_close(got.gradients, want.gradients, 1e-5, "gradient");
  }

  test::TestFolder folder_;
  Golden golden_{"internlm2"};
  std::shared_ptr<const PackSource> source_;
};

TEST_F(UnpackedParity, SamplesOfABatchHaveDifferentLengths) {
  const HostBatch batch = read({.micro_batch_size = kGlobalBatch}, 0).micro_batches.at(0);
  std::set<int32_t> lengths;
  for (size_t i = 0; i < kGlobalBatch; ++i)
    lengths.insert(batch.cu_seqlens[i + 1] - batch.cu_seqlens[i]);
  EXPECT_GE(lengths.size(), 4u);
  EXPECT_TRUE(lengths.contains(kLength)) << "a document that was cut";
  EXPECT_LT(batch.size(), kGlobalBatch * kLength);
}

// The reference: every sample fed alone, padded to a pack of its own.
TEST_F(UnpackedParity, EqualsItsSamplesOneByOne) {
  for (const double dropout : {0.0, 0.1}) {
    const Result alone = step({.padding = SlotPadding::kFull, .dropout = dropout});
    for (const int64_t micro : {1, 4, 12})
      expect_equal({.micro_batch_size = micro, .dropout = dropout}, alone);
    for (const int64_t micro : {1, 3, 6})
      expect_equal({.data = 2, .micro_batch_size = micro, .dropout = dropout}, alone);
    expect_equal({.micro_batch_size = 12, .padding = SlotPadding::kFull, .dropout = dropout},
                 alone);
  }
}

// The end of a run: one rank has fewer samples than the others, or none.
TEST_F(UnpackedParity, RanksWithoutSamplesTakePart) {
  const Result alone = step({.padding = SlotPadding::kFull, .samples = 4});
  for (const int64_t micro : {1, 2, 6})
    expect_equal({.data = 2, .micro_batch_size = micro, .samples = 4}, alone);
  expect_equal({.data = 4, .micro_batch_size = 3, .samples = 4}, alone);
}

TEST_F(UnpackedParity, MergedSamplesAreNoticed) {
  const Result alone = step({});
  const Result merged = step({.micro_batch_size = 12}, [](HostBatch& batch) {
    batch.cu_seqlens = {0, static_cast<int32_t>(batch.size())};
    batch.max_seqlen = static_cast<int32_t>(batch.size());
  });
  EXPECT_GT(worst_distance(merged.gradients, alone.gradients), 1e-3);
}

}  // namespace
}  // namespace ink

// data.packing: false: documents as samples of their own, from the store to the micro-batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/loader/data_set.h"
#include "data/loader/eval_loader.h"
#include "data/loader/synthetic.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;

constexpr int64_t kLength = 8;
constexpr int kDocuments = 40;  // of 1 to 23 tokens: up to three samples each

class Unpacked : public testing::Test {
 protected:
  void SetUp() override {
    test::write_store(path_, test::numbered_documents(kDocuments), test::small_header(kPackLength));
    store_ = TokenStore::open(path_);
    source_ = sample_source(store_, Split::kTrain, kLength);
  }

  [[nodiscard]] LoaderOptions options(int64_t rank, int64_t dp, int64_t micro, int64_t steps,
                                      SlotPadding padding = SlotPadding::kNone) const {
    LoaderOptions o;
    o.dp_rank = rank;
    o.dp_size = dp;
    o.micro_batch_size = micro;
    o.max_length = kLength;
    o.plan.global_batch_size = 12;
    o.seed = 5;
    o.padding = padding;
    o.steps = steps;
    return o;
  }

  // Not the length of a sample: the pack table does not matter here.
  static constexpr int64_t kPackLength = 5;
  test::TestFolder folder_;
  std::filesystem::path path_ = folder_ / "a.h5";
  std::shared_ptr<const TokenStore> store_;
  std::shared_ptr<const PackSource> source_;
};

std::vector<StepBatch> all_steps(const std::vector<LoaderSource>& sources, const LoaderOptions& o,
                                 const std::optional<SamplerState>& resume = std::nullopt) {
  Loader loader(sources, o, resume);
  std::vector<StepBatch> steps;
  while (auto step = loader.next()) steps.push_back(std::move(*step));
  return steps;
}

// Nothing of a document is lost, nothing is there twice, nothing of another is beside it.
TEST_F(Unpacked, PartsOfADocumentAreTheDocument) {
  int64_t sample = 0;
  for (uint64_t d = 0; d < kDocuments; ++d) {
    const TokenDocument document = store_->read_document(Split::kTrain, d);
    const auto size = static_cast<int64_t>(document.ids.size());
    for (int64_t offset = 0; offset < size; offset += kLength, ++sample) {
      const TokenRange range = source_->read(sample);
      const int64_t length = std::min(kLength, size - offset);
      const auto begin = document.ids.begin() + offset;
      EXPECT_EQ(range.ids, std::vector<int32_t>(begin, begin + length)) << d << " at " << offset;
      EXPECT_EQ(range.starts, std::vector<int32_t>{0});
      EXPECT_EQ(range.origins, std::vector<int64_t>{document.origin});
      EXPECT_EQ(range.continues, offset > 0);
      // At a cut the label is the next real token, unless that is never a target.
      const auto next = static_cast<size_t>(offset + length);
      const bool labelled = offset + length < size && !document.untrained[next];
      EXPECT_EQ(range.next_label, labelled ? document.ids[next] : kIgnoreLabel);
      const Pack pack = make_pack(range, ResetPositions::kDocument);
      for (size_t t = 0; t < pack.positions.size(); ++t)
        EXPECT_EQ(pack.positions[t], static_cast<int32_t>(t));
      const PackRow row = source_->row(sample);
      EXPECT_EQ(row.length, static_cast<uint64_t>(length));
      EXPECT_EQ(row.trained, static_cast<uint64_t>(pack.trained));
      EXPECT_EQ(row.first_document, d);
      EXPECT_EQ(row.document_offset, static_cast<uint64_t>(offset));
    }
  }
  EXPECT_EQ(sample, source_->packs());
  EXPECT_EQ(source_->documents(), kDocuments);
}

// The same targets as with packing, for every length of a sample.
TEST_F(Unpacked, EveryLengthHasTheSameTargets) {
  const auto packed = store_source(store_, Split::kTrain);
  for (const int64_t length : {1, 2, 3, 8, 22, 23, 24, 1000}) {
    const auto source = sample_source(store_, Split::kTrain, length);
    int64_t tokens = 0, trained = 0;
    for (int64_t i = 0; i < source->packs(); ++i) {
      const PackRow row = source->row(i);
      tokens += static_cast<int64_t>(row.length);
      trained += static_cast<int64_t>(row.trained);
    }
    EXPECT_EQ(tokens, packed->tokens()) << length;
    EXPECT_EQ(trained, packed->trained_tokens()) << length;
    EXPECT_EQ(source->trained_tokens(), packed->trained_tokens());
    EXPECT_EQ(source->packs() == kDocuments, length >= 23) << length;
  }
}

TEST(UnpackedSynthetic, TableAgreesWithTheTokens) {
  for (const auto& [documents, length, max_length] :
       {std::tuple{5, 7, 4}, {3, 8, 4}, {2, 30, 8}, {6, 3, 8}}) {
    SyntheticSetup setup{.size = {.documents = documents, .length = length},
                         .vocab_size = 97,
                         .max_length = max_length,
                         .packing = false,
                         .seed = 3};
    const auto source = synthetic_source(setup);
    setup.packing = true;
    setup.max_length = length;  // a document is a pack
    const auto whole = synthetic_source(setup);
    ASSERT_EQ(source->packs(), documents * ((length + max_length - 1) / max_length));
    int64_t sample = 0, trained = 0;
    for (int64_t d = 0; d < documents; ++d) {
      const std::vector<int32_t> ids = whole->read(d).ids;
      for (int64_t offset = 0; offset < length; offset += max_length, ++sample) {
        const TokenRange range = source->read(sample);
        const int64_t end = std::min<int64_t>(length, offset + max_length);
        EXPECT_EQ(range.ids, std::vector<int32_t>(ids.begin() + offset, ids.begin() + end));
        EXPECT_EQ(range.starts, std::vector<int32_t>{0});
        EXPECT_EQ(range.next_label, end < length ? ids[static_cast<size_t>(end)] : kIgnoreLabel);
        const Pack pack = make_pack(range, ResetPositions::kDocument);
        EXPECT_EQ(source->row(sample).trained, static_cast<uint64_t>(pack.trained));
        trained += pack.trained;
      }
    }
    EXPECT_EQ(trained, source->trained_tokens());
    EXPECT_NE(source->hash(), whole->hash());
  }
}

TEST_F(Unpacked, BatchIsItsSamplesEndToEnd) {
  for (const StepBatch& step : all_steps({{source_, {}}}, options(1, 2, 3, 6))) {
    for (const HostBatch& batch : step.micro_batches) {
      ASSERT_EQ(batch.sample_ids.size(), 3u);
      ASSERT_EQ(batch.cu_seqlens.size(), 4u) << "a segment is a sample";
      EXPECT_EQ(batch.real_tokens, batch.size());
      int32_t longest = 0;
      for (size_t i = 0; i < 3; ++i) {
        const TokenRange range = source_->read(batch.sample_ids[i]);
        const auto begin = batch.tokens.begin() + batch.cu_seqlens[i];
        const auto end = batch.tokens.begin() + batch.cu_seqlens[i + 1];
        EXPECT_TRUE(std::equal(begin, end, range.ids.begin(), range.ids.end()));
        longest = std::max(longest, batch.cu_seqlens[i + 1] - batch.cu_seqlens[i]);
      }
      EXPECT_EQ(batch.max_seqlen, longest);
      EXPECT_EQ(batch.trained,
                batch.size() - std::count(batch.labels.begin(), batch.labels.end(), kIgnoreLabel));
    }
  }
}

// What a token is, its id and label and place, does not depend on the padding.
TEST_F(Unpacked, PaddingAddsOnlyPadding) {
  const auto bare = all_steps({{source_, {}}}, options(0, 2, 2, 6));
  const auto full = all_steps({{source_, {}}}, options(0, 2, 2, 6, SlotPadding::kFull));
  ASSERT_EQ(bare.size(), full.size());
  for (size_t s = 0; s < bare.size(); ++s) {
    EXPECT_EQ(bare[s].trained, full[s].trained);
    EXPECT_EQ(bare[s].real_tokens, full[s].real_tokens);
    EXPECT_EQ(bare[s].tokens, bare[s].real_tokens);
    EXPECT_EQ(full[s].tokens, 12 * kLength);
    for (size_t m = 0; m < bare[s].micro_batches.size(); ++m) {
      const HostBatch &a = bare[s].micro_batches[m], &b = full[s].micro_batches[m];
      EXPECT_EQ(b.size(), 2 * kLength);
      EXPECT_EQ(a.trained, b.trained);
      std::map<int64_t, std::array<int32_t, 3>> of_id;
      for (size_t t = 0; t < b.tokens.size(); ++t)
        if (b.source_ids[static_cast<size_t>(b.documents[t])] >= 0)
          of_id[b.token_ids[t]] = {b.tokens[t], b.labels[t], b.positions[t]};
      ASSERT_EQ(of_id.size(), a.tokens.size());
      for (size_t t = 0; t < a.tokens.size(); ++t) {
        const std::array<int32_t, 3> want{a.tokens[t], a.labels[t], a.positions[t]};
        EXPECT_EQ(of_id.at(a.token_ids[t]), want);
      }
    }
  }
}

// Samples of the global batch of every step, by slot.
std::vector<std::map<int64_t, int64_t>> global_order(const std::vector<LoaderSource>& sources,
                                                     const LoaderOptions& like,
                                                     const std::optional<SamplerState>& resume) {
  std::vector<std::map<int64_t, int64_t>> order;
  std::vector<int64_t> stated, counted, computed, sizes;
  for (int64_t rank = 0; rank < like.dp_size; ++rank) {
    LoaderOptions o = like;
    o.dp_rank = rank;
    const auto steps = all_steps(sources, o, resume);
    order.resize(steps.size());
    for (auto* list : {&stated, &counted, &computed, &sizes}) list->resize(steps.size(), 0);
    for (size_t s = 0; s < steps.size(); ++s) {
      stated[s] = steps[s].trained;
      computed[s] = steps[s].tokens;
      for (const HostBatch& batch : steps[s].micro_batches) {
        counted[s] += batch.trained;
        sizes[s] += batch.size();
        for (size_t i = 0; i < batch.sample_ids.size(); ++i) {
          if (batch.sample_ids[i] < 0) continue;
          const auto first = static_cast<size_t>(batch.cu_seqlens[i]);
          order[s][batch.token_ids[first] / kLength] = batch.sample_ids[i];
        }
      }
    }
  }
  EXPECT_EQ(counted, stated) << "N is the sum of the labels of all ranks";
  EXPECT_EQ(sizes, computed);
  return order;
}

TEST_F(Unpacked, OneGlobalOrderForEveryLayoutAndResume) {
  const std::vector<LoaderSource> sources = {{source_, 0.75},
                                             {sample_source(store_, Split::kTrain, kLength), 0.25}};
  const auto whole = global_order(sources, options(0, 1, 12, 9), {});
  const SamplerState state = all_steps(sources, options(0, 2, 2, 4)).back().state;
  for (const auto& [dp, micro] : {std::pair{2, 3}, {3, 1}, {4, 3}, {12, 1}}) {
    EXPECT_EQ(global_order(sources, options(0, dp, micro, 9), {}), whole) << dp << " ranks";
    const auto rest = global_order(sources, options(0, dp, micro, 9), state);
    EXPECT_EQ(rest, std::vector(whole.begin() + 4, whole.end())) << dp << " ranks";
  }
  std::array<int64_t, 2> drawn{};
  for (const auto& step : whole)
    for (const auto& [slot, sample] : step) ++drawn[sample < source_->packs() ? 0 : 1];
  EXPECT_EQ(drawn, (std::array<int64_t, 2>{81, 27})) << "weights are shares of samples";
}

TEST_F(Unpacked, AnEpochIsEverySampleOnceAndOnlyItsEndIsShort) {
  LoaderOptions o = options(0, 2, 2, 0);
  o.total_packs = source_->packs();
  o.steps = o.plan.steps_for(*o.total_packs);
  ASSERT_NE(*o.total_packs % 12, 0);
  const auto order = global_order({{source_, {}}}, o, {});
  std::multiset<int64_t> seen;
  for (const auto& step : order)
    for (const auto& [slot, sample] : step) seen.insert(sample);
  ASSERT_EQ(static_cast<int64_t>(seen.size()), source_->packs());
  EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), seen.size());
}

// A rank without any sample of the last batch still takes part: one token of padding.
TEST_F(Unpacked, AMicroBatchWithoutSamplesIsOneTokenOfPadding) {
  LoaderOptions o = options(11, 12, 1, 1);
  o.total_packs = 3;
  const auto steps = all_steps({{source_, {}}}, o);
  ASSERT_EQ(steps.size(), 1u);
  const HostBatch& batch = steps[0].micro_batches.at(0);
  EXPECT_EQ(batch.tokens, std::vector<int32_t>{0});
  EXPECT_EQ(batch.labels, std::vector<int32_t>{kIgnoreLabel});
  EXPECT_EQ(batch.positions, std::vector<int32_t>{0});
  EXPECT_EQ(batch.cu_seqlens, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(batch.source_ids, std::vector<int32_t>{-1});
  EXPECT_EQ(batch.sample_ids, std::vector<int64_t>{-1});
  EXPECT_EQ(batch.token_ids, std::vector<int64_t>{11 * kLength});
  EXPECT_EQ(batch.real_tokens, 0);
  EXPECT_EQ(steps[0].tokens, steps[0].real_tokens + 9);
}

TEST_F(Unpacked, RampAndSkippedSteps) {
  LoaderOptions o = options(0, 2, 1, 6);
  o.plan.ramp = BatchRamp{.start = 2, .increment = 10, .every = 2};
  o.plan.skip = {{2, 2}};
  const auto steps = all_steps({{source_, {}}}, o);
  std::vector<int64_t> samples;
  for (const StepBatch& step : steps) samples.push_back(step.packs);
  EXPECT_EQ(samples, (std::vector<int64_t>{2, 2, 12, 12, 12, 12}));
  EXPECT_TRUE(steps[1].skipped && steps[1].micro_batches.empty());
  EXPECT_GT(steps[1].real_tokens, 0) << "consumed";
}

TEST_F(Unpacked, EvaluationCountsTheSameOnEveryLayout) {
  for (const int64_t most : {int64_t{0}, int64_t{17}}) {
    const int64_t samples = most > 0 ? most : source_->packs();
    int64_t expected = 0;
    for (int64_t i = 0; i < samples; ++i) expected += make_pack(source_->read(i), {}).trained;
    for (const int64_t dp : {1, 2, 3}) {
      int64_t labels = 0;
      std::set<int64_t> seen;
      for (int64_t rank = 0; rank < dp; ++rank) {
        const EvalLoader eval(source_, {.dp_rank = rank,
                                        .dp_size = dp,
                                        .micro_batch_size = 2,
                                        .max_packs = most,
                                        .padding = SlotPadding::kNone});
        EXPECT_EQ(eval.trained(), expected);
        for (int64_t i = 0; i < eval.size(); ++i) {
          const HostBatch batch = eval.read(i);
          labels += batch.trained;
          for (const int64_t id : batch.sample_ids)
            if (id >= 0) seen.insert(id);
        }
      }
      EXPECT_EQ(labels, expected);
      EXPECT_EQ(static_cast<int64_t>(seen.size()), samples);
    }
  }
}

// One store serves samples of any length, and packs of its own alone; a resume tells them apart.
TEST_F(Unpacked, DataSetOfSamples) {
  const auto open = [&](bool packing, int64_t max_length) {
    DataSetSetup setup;
    TrainSource train;
    train.path = path_.string();
    setup.data.train = {train};
    setup.data.packing = packing;
    setup.data.max_length = max_length;
    setup.vocab_size = 60000;
    return open_data_set(setup);
  };
  const DataSet samples = open(false, kLength);
  EXPECT_EQ(samples.packs(), source_->packs());
  EXPECT_EQ(error_of([&] { (void)open(true, kLength); }).code(), ExitCode::kConfig);
  samples.check_identity(open(false, kLength).identity(), "step-1");
  // 23 is the longest document: the same number of samples as with 24.
  for (const auto& [a, b] : {std::pair{open(false, 23), open(false, 24)},
                             std::pair{open(true, kPackLength), open(false, kPackLength)}})
    EXPECT_EQ(error_of([&] { a.check_identity(b.identity(), "step-1"); }).code(),
              ExitCode::kBadInput);
}

}  // namespace
}  // namespace ink

#include "data/loader/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "data/loader/eval_loader.h"
#include "data/loader/synthetic.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;

std::shared_ptr<const PackSource> synthetic(int64_t documents, int64_t length = 10,
                                            int64_t max_length = 8, uint64_t seed = 1) {
  return synthetic_source({.size = {.documents = documents, .length = length},
                           .vocab_size = 50,
                           .max_length = max_length,
                           .seed = seed});
}

LoaderOptions options(int64_t dp_rank, int64_t dp_size, int64_t micro, int64_t global,
                      int64_t steps) {
  LoaderOptions o;
  o.dp_rank = dp_rank;
  o.dp_size = dp_size;
  o.micro_batch_size = micro;
  o.max_length = 8;
  o.plan.global_batch_size = global;
  o.seed = 5;
  o.steps = steps;
  return o;
}

std::vector<StepBatch> all_steps(Loader& loader) {
  std::vector<StepBatch> steps;
  while (auto step = loader.next()) steps.push_back(std::move(*step));
  return steps;
}

// Sample ids of the global batch of every step, in the order of their slots.
std::vector<std::vector<int64_t>> global_order(std::vector<LoaderSource> sources, int64_t dp,
                                               int64_t micro, int64_t global, int64_t steps,
                                               const std::optional<SamplerState>& resume = {}) {
  std::vector<std::vector<int64_t>> order, packs;
  for (int64_t rank = 0; rank < dp; ++rank) {
    Loader loader(sources, options(rank, dp, micro, global, steps), resume);
    const auto batches = all_steps(loader);
    if (order.empty())
      order.resize(batches.size(), std::vector<int64_t>(static_cast<size_t>(global), -2));
    EXPECT_EQ(batches.size(), order.size());
    for (size_t s = 0; s < batches.size(); ++s) {
      // Every rank knows the packs of all.
      if (rank == 0) packs.push_back(batches[s].pack_ids);
      EXPECT_EQ(batches[s].pack_ids, packs[s]);
      for (const HostBatch& batch : batches[s].micro_batches)
        for (size_t i = 0; i < batch.sample_ids.size(); ++i) {
          const int64_t slot = batch.token_ids[i * 8] / 8;
          order[s][static_cast<size_t>(slot)] = batch.sample_ids[i];
        }
    }
  }
  for (size_t s = 0; s < order.size(); ++s) {
    std::vector<int64_t> without_empty = order[s];
    std::erase(without_empty, -1);
    EXPECT_EQ(packs[s], without_empty);
  }
  return order;
}

// P13: the union over ranks and the steps of one epoch is the data set, each pack once.
TEST(Loader, EpochIsEveryPackOnceForEveryLayout) {
  const std::vector<LoaderSource> sources = {{synthetic(48), {}}};  // 480 tokens, 60 packs
  ASSERT_EQ(sources[0].packs->packs(), 60);
  const auto serial = global_order(sources, 1, 12, 12, 10);
  for (size_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> seen;
    for (size_t s = 5 * epoch; s < 5 * epoch + 5; ++s)
      seen.insert(serial[s].begin(), serial[s].end());
    EXPECT_EQ(seen.size(), 60u);
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), 59);
  }
  EXPECT_NE(serial[0], serial[5]) << "each epoch has an order of its own";
  for (const auto& [dp, micro] : {std::pair{1, 1}, {2, 3}, {3, 2}, {4, 1}, {4, 3}, {12, 1}})
    EXPECT_EQ(global_order(sources, dp, micro, 12, 10), serial)
        << dp << " ranks, micro-batch " << micro;
}

// P13: dp changes in the middle of an epoch, the global order goes on.
TEST(Loader, AnotherNumberOfRanksResumesTheSameOrder) {
  const std::vector<LoaderSource> sources = {{synthetic(48), {}}, {synthetic(20, 7), {}}};
  const auto whole = global_order(sources, 2, 2, 12, 12);
  Loader before(sources, options(1, 2, 2, 12, 12));
  SamplerState state;
  for (int s = 0; s < 7; ++s) state = before.next()->state;
  const auto json = nlohmann::json::parse(state.to_json().dump());
  const SamplerState loaded = SamplerState::from_json(json, "state");
  EXPECT_EQ(loaded, state);
  const auto rest = global_order(sources, 3, 1, 12, 12, loaded);
  ASSERT_EQ(rest.size(), 5u);
  for (size_t s = 0; s < 5; ++s) EXPECT_EQ(rest[s], whole[s + 7]) << s;
}

TEST(Loader, ResumedBatchesAreEqualToTheLastNumber) {
  const std::vector<LoaderSource> sources = {{synthetic(30), {}}};
  Loader whole(sources, options(1, 2, 2, 8, 9));
  const auto expected = all_steps(whole);
  for (size_t at = 0; at < 9; ++at) {
    Loader resumed(sources, options(1, 2, 2, 8, 9), expected[at].state);
    const auto rest = all_steps(resumed);
    ASSERT_EQ(rest.size(), 8 - at);
    for (size_t s = 0; s < rest.size(); ++s) {
      const StepBatch &a = rest[s], &b = expected[at + 1 + s];
      EXPECT_EQ(a.step, b.step);
      EXPECT_EQ(a.trained, b.trained);
      EXPECT_EQ(a.sample_ids, b.sample_ids);
      ASSERT_EQ(a.micro_batches.size(), b.micro_batches.size());
      for (size_t m = 0; m < a.micro_batches.size(); ++m) {
        EXPECT_EQ(a.micro_batches[m].tokens, b.micro_batches[m].tokens);
        EXPECT_EQ(a.micro_batches[m].labels, b.micro_batches[m].labels);
        EXPECT_EQ(a.micro_batches[m].cu_seqlens, b.micro_batches[m].cu_seqlens);
      }
    }
  }
}

// N comes from the pack tables; it is what the labels of all ranks add up to.
TEST(Loader, DivisorIsTheSumOverAllRanks) {
  const std::vector<LoaderSource> sources = {{synthetic(31, 7), {}}};
  std::vector<int64_t> labels(6, 0), stated(6, 0);
  for (int64_t rank = 0; rank < 3; ++rank) {
    Loader loader(sources, options(rank, 3, 2, 12, 6));
    for (const StepBatch& step : all_steps(loader)) {
      const auto s = static_cast<size_t>(step.step - 1);
      stated[s] = step.trained;
      for (const HostBatch& batch : step.micro_batches) {
        const auto ignored = std::count(batch.labels.begin(), batch.labels.end(), kIgnoreLabel);
        EXPECT_EQ(batch.trained, batch.size() - ignored);
        labels[s] += batch.trained;
      }
    }
  }
  EXPECT_EQ(labels, stated);
  EXPECT_GT(stated[0], 0);
}

TEST(Loader, OnlyTheLastBatchIsFilledWithEmptyPacks) {
  const std::vector<LoaderSource> sources = {{synthetic(48), {}}};  // 60 packs
  LoaderOptions o = options(0, 1, 8, 8, 8);
  o.total_packs = 60;
  EXPECT_EQ(o.plan.steps_for(60), 8);
  Loader loader(sources, o);
  const auto steps = all_steps(loader);
  ASSERT_EQ(steps.size(), 8u);
  for (size_t s = 0; s < 7; ++s) EXPECT_EQ(steps[s].packs, 8);
  EXPECT_EQ(steps[7].packs, 4);
  EXPECT_EQ(std::count(steps[7].sample_ids.begin(), steps[7].sample_ids.end(), -1), 4);
  const HostBatch& last = steps[7].micro_batches[0];
  EXPECT_EQ(last.size(), 64);
  EXPECT_EQ(last.cu_seqlens.back(), 64);
  for (size_t t = 32; t < 64; ++t) EXPECT_EQ(last.labels[t], kIgnoreLabel);
  EXPECT_EQ(steps[7].state.cursor, 60);
  EXPECT_DOUBLE_EQ(steps[7].epoch, 1.0);
}

TEST(Loader, CursorRunsOverTheEndOfAnEpoch) {
  const std::vector<LoaderSource> sources = {{synthetic(4), {}}};  // 5 packs
  Loader loader(sources, options(0, 1, 1, 3, 5));                  // 15 packs: three epochs
  std::map<int64_t, int> times;
  for (const StepBatch& step : all_steps(loader))
    for (const int64_t id : step.sample_ids) ++times[id];
  ASSERT_EQ(times.size(), 5u);
  for (const auto& [id, count] : times) EXPECT_EQ(count, 3) << id;
}

TEST(Loader, SequentialOrderIsTheStoredOne) {
  const std::vector<LoaderSource> sources = {{synthetic(8), {}}};  // 10 packs
  LoaderOptions o = options(0, 1, 1, 4, 3);
  o.order = DataOrder::kSequential;
  Loader loader(sources, o);
  std::vector<int64_t> ids;
  for (const StepBatch& step : all_steps(loader))
    ids.insert(ids.end(), step.sample_ids.begin(), step.sample_ids.end());
  EXPECT_EQ(ids, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1}));
}

TEST(Loader, SkippedStepsConsumeTheirData) {
  const std::vector<LoaderSource> sources = {{synthetic(48), {}}};
  LoaderOptions o = options(0, 1, 1, 4, 6);
  Loader plain(sources, o);
  o.plan.skip = {{2, 3}, {5, 5}};
  Loader skipping(sources, o);
  const auto expected = all_steps(plain), got = all_steps(skipping);
  ASSERT_EQ(got.size(), 6u);
  for (size_t s = 0; s < 6; ++s) {
    const bool skipped = s == 1 || s == 2 || s == 4;
    EXPECT_EQ(got[s].skipped, skipped);
    EXPECT_EQ(got[s].micro_batches.empty(), skipped);
    EXPECT_EQ(got[s].sample_ids, expected[s].sample_ids);
    EXPECT_EQ(got[s].state, expected[s].state);
  }
}

TEST(Loader, RampTakesGrowingBatches) {
  const std::vector<LoaderSource> sources = {{synthetic(48), {}}};
  LoaderOptions o = options(0, 2, 1, 8, 6);
  o.plan.ramp = BatchRamp{.start = 2, .increment = 4, .every = 2};
  Loader loader(sources, o);
  std::vector<int64_t> packs;
  for (const StepBatch& step : all_steps(loader)) packs.push_back(step.packs);
  EXPECT_EQ(packs, (std::vector<int64_t>{2, 2, 6, 6, 8, 8}));
}

TEST(BatchPlan, ArithmeticAgreesWithCountingStepByStep) {
  for (const auto& ramp : {BatchRamp{2, 2, 3}, BatchRamp{4, 6, 1}, BatchRamp{16, 2, 5}}) {
    BatchPlan plan{.global_batch_size = 16, .ramp = ramp, .skip = {}};
    int64_t packs = 0;
    for (int64_t step = 1; step < 60; ++step) {
      EXPECT_EQ(plan.packs_through(step - 1), packs);
      EXPECT_EQ(plan.steps_for(packs + 1), step);
      packs += plan.size(step);
      EXPECT_EQ(plan.steps_for(packs), step);
    }
  }
}

TEST(BatchPlan, ImpossibleSizesNameTheNearest) {
  const BatchPlan plan{.global_batch_size = 14, .ramp = {}, .skip = {}};
  const Error error = error_of([&] { plan.validate(2, 4); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_EQ(error.line(),
            "error[2]: train.global_batch_size: expected a multiple of 8 (2 data-parallel ranks x "
            "micro_batch_size 4), got 14\nhint: nearest: 8 and 16");
}

TEST(Sampler, SharesFollowTheWeightsAtEveryMoment) {
  Sampler sampler({{100, 0.7}, {1000, 0.2}, {10, 0.1}}, 3, DataOrder::kShuffled);
  std::vector<int64_t> drawn(3, 0);
  for (int64_t c = 1; c <= 2000; ++c) {
    ++drawn[static_cast<size_t>(sampler.next().source)];
    EXPECT_LT(std::abs(static_cast<double>(drawn[0]) - 0.7 * static_cast<double>(c)), 1.01);
    EXPECT_LT(std::abs(static_cast<double>(drawn[1]) - 0.2 * static_cast<double>(c)), 1.01);
    EXPECT_LT(std::abs(static_cast<double>(drawn[2]) - 0.1 * static_cast<double>(c)), 1.01);
  }
  EXPECT_EQ(drawn, (std::vector<int64_t>{1400, 400, 200}));
}

TEST(Sampler, EverySourceRunsItsOwnEpochs) {
  Sampler sampler({{7, 0.5}, {90, 0.5}}, 3, DataOrder::kShuffled);
  std::map<int64_t, std::set<int64_t>> small;  // epoch -> packs of source 0
  for (int c = 0; c < 42; ++c) {
    const Draw draw = sampler.next();
    if (draw.source == 0) small[draw.epoch].insert(draw.pack);
  }
  ASSERT_EQ(small.size(), 3u);
  for (const auto& [epoch, packs] : small) EXPECT_EQ(packs.size(), 7u) << epoch;
}

TEST(Sampler, WithoutWeightsAnEpochIsEveryPackOfEverySourceOnce) {
  Sampler sampler({{13, {}}, {40, {}}, {1, {}}}, 3, DataOrder::kShuffled);
  std::set<std::pair<int32_t, int64_t>> seen;
  for (int c = 0; c < 54; ++c) {
    const Draw draw = sampler.next();
    EXPECT_EQ(draw.epoch, 0);
    seen.insert({draw.source, draw.pack});
  }
  EXPECT_EQ(seen.size(), 54u);
}

TEST(Sampler, RefusesWeightsOnSomeSourcesOnly) {
  const Error error = error_of([] { Sampler({{5, 0.5}, {5, {}}}, 1, DataOrder::kShuffled); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
}

TEST(Sampler, RefusesAForeignState) {
  Sampler sampler({{5, {}}, {5, {}}}, 1, DataOrder::kShuffled);
  SamplerState state = sampler.state();
  const auto refused = [&](const SamplerState& bad) {
    return error_of([&] { sampler.restore(bad, "step-3"); }).code() == ExitCode::kBadInput;
  };
  SamplerState other_seed = state, other_count = state, other_sum = state;
  other_seed.seed = 2;
  other_count.drawn = {0};
  other_sum.cursor = 3;
  EXPECT_TRUE(refused(other_seed));
  EXPECT_TRUE(refused(other_count));
  EXPECT_TRUE(refused(other_sum));
  nlohmann::json json = state.to_json();
  json["extra"] = 1;
  EXPECT_EQ(error_of([&] { (void)SamplerState::from_json(json, "state"); }).code(),
            ExitCode::kBadInput);
}

// Counts reads and fails or waits on demand.
class ProbeSource final : public PackSource {
 public:
  explicit ProbeSource(std::shared_ptr<const PackSource> inner) : inner_(std::move(inner)) {}
  std::string name() const override { return "probe"; }
  std::string hash() const override { return "probe"; }
  int64_t packs() const override { return inner_->packs(); }
  int64_t tokens() const override { return inner_->tokens(); }
  int64_t documents() const override { return inner_->documents(); }
  int64_t trained_tokens() const override { return inner_->trained_tokens(); }
  int64_t max_length() const override { return inner_->max_length(); }
  PackRow row(int64_t pack) const override { return inner_->row(pack); }
  TokenRange read(int64_t pack) const override {
    if (++reads == fail_at) throw Error(ExitCode::kBadInput, "probe", "broken");
    return inner_->read(pack);
  }
  std::vector<uint64_t> document_lengths(int64_t first, int64_t count) const override {
    return inner_->document_lengths(first, count);
  }
  TokenRange read_document(int64_t document) const override {
    return inner_->read_document(document);
  }
  mutable std::atomic<int> reads = 0;
  int fail_at = -1;

 private:
  std::shared_ptr<const PackSource> inner_;
};

TEST(Prefetch, CarriesTheErrorAfterTheBatchesBeforeIt) {
  auto probe = std::make_shared<ProbeSource>(synthetic(48));
  probe->fail_at = 7;  // in step 4 of two packs each
  Loader loader({{probe, {}}}, options(0, 1, 1, 2, 10));
  for (int64_t step = 1; step <= 3; ++step) EXPECT_EQ(loader.next()->step, step);
  const Error error = error_of([&] { (void)loader.next(); });
  EXPECT_EQ(error.line(), "error[3]: probe: broken");
  EXPECT_EQ(error_of([&] { (void)loader.next(); }).code(), ExitCode::kBadInput) << "and again";
}

TEST(Prefetch, ReadsAheadNoFurtherThanAsked) {
  auto probe = std::make_shared<ProbeSource>(synthetic(48));
  LoaderOptions o = options(0, 1, 1, 2, 100);
  o.prefetch = 3;
  Loader loader({{probe, {}}}, o);
  for (int wait = 0; wait < 500 && probe->reads < 6; ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(probe->reads, 6);
}

TEST(Prefetch, StopsAtAnyMoment) {
  for (int taken = 0; taken < 4; ++taken) {
    Loader loader({{synthetic(48), {}}}, options(0, 1, 1, 2, 1000000));
    for (int i = 0; i < taken; ++i) EXPECT_TRUE(loader.next());
  }
}

TEST(EvalLoader, IsOrderedSplitAndComplete) {
  const auto source = synthetic(9, 7);  // 63 tokens, 8 packs
  for (const int64_t dp : {1, 2, 3}) {
    std::map<int64_t, int64_t> trained;
    int64_t total = 0;
    for (int64_t rank = 0; rank < dp; ++rank) {
      const EvalLoader eval(source, {.dp_rank = rank,
                                     .dp_size = dp,
                                     .micro_batch_size = 2,
                                     .max_packs = 7,
                                     .reset_positions = ResetPositions::kDocument});
      total = eval.trained();
      for (int64_t i = 0; i < eval.size(); ++i) {
        const HostBatch batch = eval.read(i);
        EXPECT_EQ(batch.size(), 16);
        for (const int64_t id : batch.sample_ids)
          if (id >= 0) ++trained[id];
      }
    }
    EXPECT_EQ(trained.size(), 7u);
    int64_t expected = 0;
    for (int64_t p = 0; p < 7; ++p) expected += static_cast<int64_t>(source->row(p).trained);
    EXPECT_EQ(total, expected);
  }
}

TEST(Synthetic, TableAgreesWithTheTokens) {
  for (const auto& [documents, length, max_length] :
       {std::tuple{5, 7, 4}, {3, 4, 4}, {1, 1, 8}, {6, 1, 4}, {2, 30, 8}}) {
    const auto source = synthetic_source({.size = {.documents = documents, .length = length},
                                          .vocab_size = 97,
                                          .max_length = max_length,
                                          .seed = 3});
    int64_t trained = 0, tokens = 0;
    for (int64_t p = 0; p < source->packs(); ++p) {
      const Pack pack = make_pack(source->read(p), ResetPositions::kDocument);
      EXPECT_EQ(static_cast<uint64_t>(pack.trained), source->row(p).trained);
      EXPECT_EQ(pack.tokens.size(), source->row(p).length);
      for (const int32_t id : pack.tokens) EXPECT_TRUE(id >= 0 && id < 97);
      trained += pack.trained;
      tokens += static_cast<int64_t>(pack.tokens.size());
    }
    EXPECT_EQ(trained, source->trained_tokens());
    EXPECT_EQ(tokens, documents * length);
  }
}

// The promise of the header: two tokens of a walk predict the third about 7 times in 8.
TEST(Synthetic, HasStructureThatCanBeLearned) {
  const auto source = synthetic(200, 64, 64);
  int64_t right = 0, all = 0;
  for (int64_t p = 0; p < source->packs(); ++p) {
    const TokenRange range = source->read(p);
    for (size_t i = 2; i < range.ids.size(); ++i, ++all)
      right += (2 * range.ids[i - 1] - range.ids[i - 2] + 50) % 50 == range.ids[i];
  }
  const double share = static_cast<double>(right) / static_cast<double>(all);
  EXPECT_NEAR(share, 0.824, 0.03);  // (15/16)^3
}

// A store behind the loader: the whole path from documents to micro-batches.
TEST(Loader, ReadsAStore) {
  const test::TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(80), test::small_header(8));
  const auto source = store_source(TokenStore::open(folder / "a.h5"), Split::kTrain);
  LoaderOptions o = options(0, 1, 2, 4, 1);
  o.steps = o.plan.steps_for(source->packs());
  o.total_packs = source->packs();
  Loader loader({{source, {}}}, o);
  int64_t trained = 0, tokens = 0;
  for (const StepBatch& step : all_steps(loader)) {
    trained += step.trained;
    tokens += step.real_tokens;
  }
  EXPECT_EQ(trained, source->trained_tokens());
  EXPECT_EQ(tokens, source->tokens());
}

TEST(Loader, RefusesPacksOfAnotherLength) {
  LoaderOptions o = options(0, 1, 1, 1, 1);
  o.max_length = 16;
  const Error error = error_of([&] { Loader({{synthetic(4), {}}}, o); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_NE(error.line().find("data.max_length 16, got 8"), std::string::npos) << error.line();
}

}  // namespace
}  // namespace ink

// Generation with the cache against the whole sequence run again for every token.
#include "models/generate/generator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "launch/trainer/device_batch.h"
#include "parallel/comm/self_group.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

// The first eight tokens of the reference.
std::vector<int32_t> some_prompt() {
  std::vector<int32_t> ids = Fixture().pack(0, {0}).tokens;
  ids.resize(8);
  return ids;
}

// Greedy continuation without a cache.
std::vector<int32_t> continue_again(Trainee& trainee, std::vector<int32_t> ids, int count) {
  const Scoped no_grad(trainee.runtime().grad_enabled, false);
  std::vector<int32_t> fresh;
  for (int i = 0; i < count; ++i) {
    const auto length = static_cast<int32_t>(ids.size());
    HostBatch host{
        .tokens = ids, .labels = std::vector<int32_t>(ids.size(), -100), .cu_seqlens = {0, length}};
    for (int32_t t = 0; t < length; ++t) {
      host.positions.push_back(t);
      host.token_ids.push_back(t);
    }
    host.max_seqlen = length;
    const Batch batch = to_device(trainee.runtime(), host, 1.0, 0);
    const Tensor logits = trainee.model().logits(batch, length);
    const Values last = to_values(logits.slice(length - 1, 1));
    fresh.push_back(
        static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
    ids.push_back(fresh.back());
  }
  return fresh;
}

SamplingOptions greedy(int64_t count) { return {.max_new_tokens = count, .temperature = 0}; }

class Generation : public testing::TestWithParam<const char*> {
 protected:
  const std::vector<int32_t> prompt_ = some_prompt();
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

// internlm3 passes its 32 positions on the way, so that its angles move.
TEST_P(Generation, CacheChangesNoToken) {
  const Golden golden(GetParam());
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    TraineeOptions options;
    options.compute = compute;
    Trainee trainee(golden, *alone_, options);
    const Generated got = generate(trainee.runtime(), trainee.model(), prompt_, greedy(40));
    if (compute == DType::kF32) {
      EXPECT_EQ(got.ids, continue_again(trainee, prompt_, 40));
    }
    EXPECT_EQ(got.ids.size(), 40u);
    EXPECT_EQ(got.logprobs.size(), 40u);
    for (const double logprob : got.logprobs) EXPECT_LT(logprob, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Generation,
                         testing::Values("internlm2", "internlm2_wide", "internlm1", "internlm3",
                                         "qwen2_tied"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Generator, StopsAtAStopIdAndKeepsIt) {
  const Golden golden("internlm2");
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  const Generated whole = generate(trainee.runtime(), trainee.model(), some_prompt(), greedy(10));
  SamplingOptions options = greedy(10);
  options.stop_ids = {9999, whole.ids[4]};
  const Generated stopped = generate(trainee.runtime(), trainee.model(), some_prompt(), options);
  const auto first = std::find(whole.ids.begin(), whole.ids.end(), whole.ids[4]);
  EXPECT_EQ(stopped.ids, std::vector<int32_t>(whole.ids.begin(), first + 1));
  EXPECT_EQ(stopped.reason, StopReason::kEos);
  EXPECT_EQ(whole.reason, StopReason::kLength);
}

TEST(Generator, CallbackSeesEveryTokenAndMayStop) {
  const Golden golden("internlm2");
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  std::vector<int32_t> seen;
  const Generated got = generate(trainee.runtime(), trainee.model(), some_prompt(), greedy(10),
                                 [&](const SampledToken& token) {
                                   seen.push_back(token.id);
                                   return seen.size() < 3;
                                 });
  EXPECT_EQ(got.ids, seen);
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(got.reason, StopReason::kCallback);
}

// Dropout is off, nothing is recorded, and the modes of the runtime are as before.
TEST(Generator, LeavesTheRuntimeAsItWas) {
  const Golden golden("internlm2");
  const auto alone = make_self_group();
  TraineeOptions options;
  options.dropout = 0.5;
  Trainee dropping(golden, *alone, options), plain(golden, *alone);
  const Generated a = generate(dropping.runtime(), dropping.model(), some_prompt(), greedy(12));
  EXPECT_EQ(a.ids, generate(plain.runtime(), plain.model(), some_prompt(), greedy(12)).ids);
  EXPECT_TRUE(dropping.runtime().grad_enabled);
  EXPECT_TRUE(dropping.runtime().training);
}

TEST(Generator, BadPromptsAreRefused) {
  const Golden golden("internlm2");
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  const auto run = [&](const std::vector<int32_t>& prompt) {
    return [&trainee, prompt] {
      (void)generate(trainee.runtime(), trainee.model(), prompt, greedy(1));
    };
  };
  expect_error(ExitCode::kConfig, {"prompt", "at least one token"}, run({}));
  const auto vocabulary = static_cast<int32_t>(golden.options().vocab_size);
  expect_error(ExitCode::kBadInput, {"prompt", fmt::format("below {0}, got {0}", vocabulary)},
               run({1, vocabulary}));
  expect_error(ExitCode::kBadInput, {"prompt", "got -1"}, run({-1}));
}

}  // namespace
}  // namespace ink

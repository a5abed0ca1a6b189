// From logits to a token: greedy, penalties, cuts, the draw.
#include "models/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

// Probabilities .5, .25, .125, .0625, .0625 in another order.
const std::vector<float> kLogits = {std::log(0.125f), std::log(0.5f), std::log(0.0625f),
                                    std::log(0.25f), std::log(0.0625f)};

SamplingOptions plain() {
  return {.temperature = 1, .top_k = 0, .top_p = 1, .repetition_penalty = 1};
}

// Shares of the tokens over many draws.
std::map<int32_t, double> shares(const SamplingOptions& options,
                                 const std::vector<int32_t>& seen = {}) {
  constexpr int kDraws = 20'000;
  std::map<int32_t, double> share;
  for (int i = 0; i < kDraws; ++i)
    share[sample_token(kLogits, options, i, seen).id] += 1.0 / kDraws;
  return share;
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestIdOnATie) {
  SamplingOptions options = plain();
  options.temperature = 0;
  EXPECT_EQ(sample_token(kLogits, options, 0, {}).id, 1);
  const std::vector<float> tie = {0.5f, 2.0f, 2.0f, -1.0f};
  EXPECT_EQ(sample_token(tie, options, 0, {}).id, 1);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const auto share = shares(plain());
  EXPECT_NEAR(share.at(1), 0.5, 0.015);
  EXPECT_NEAR(share.at(3), 0.25, 0.015);
  EXPECT_NEAR(share.at(0), 0.125, 0.015);
  EXPECT_NEAR(share.at(2), 0.0625, 0.01);
}

TEST(Sampler, TemperatureSharpens) {
  SamplingOptions options = plain();
  options.temperature = 0.5;  // squares the odds: 64 : 16 : 4 : 1 : 1 of 86
  EXPECT_NEAR(shares(options).at(1), 64.0 / 86, 0.015);
  options.temperature = 2;
  EXPECT_LT(shares(options).at(1), 0.4);
}

TEST(Sampler, CutsKeepTheMostProbable) {
  const auto ids = [](const SamplingOptions& options) {
    std::set<int32_t> kept;
    for (const auto& [id, share] : shares(options)) kept.insert(id);
    return kept;
  };
  SamplingOptions options = plain();
  options.top_k = 2;
  EXPECT_EQ(ids(options), (std::set<int32_t>{1, 3}));
  EXPECT_NEAR(shares(options).at(1), 2.0 / 3, 0.015);
  options.top_k = 100;
  EXPECT_EQ(ids(options).size(), 5u);
  options = plain();
  options.top_p = 0.7;  // .5 + .25 reach it
  EXPECT_EQ(ids(options), (std::set<int32_t>{1, 3}));
  options.top_p = 0.4;  // the first always stays
  EXPECT_EQ(ids(options), (std::set<int32_t>{1}));
  options = plain();
  options.min_p = 0.2;  // at least a fifth of .5
  EXPECT_EQ(ids(options), (std::set<int32_t>{0, 1, 3}));
}

TEST(Sampler, RepetitionPenaltyCountsEveryIdOnce) {
  SamplingOptions options = plain();
  options.temperature = 0;
  options.repetition_penalty = 2;
  const std::vector<float> logits = {1.5f, 2.0f, -1.0f, -1.2f};
  EXPECT_EQ(sample_token(logits, options, 0, std::vector<int32_t>{1}).id, 0);
  // Twice punished, 2.0 would fall to 0.5 and below; once, to 1.0.
  const std::vector<float> near = {0.9f, 2.0f};
  EXPECT_EQ(sample_token(near, options, 0, std::vector<int32_t>{1, 1, 1}).id, 1);
  // A negative logit moves down, not up.
  const std::vector<float> negative = {-1.0f, -1.2f};
  EXPECT_EQ(sample_token(negative, options, 0, std::vector<int32_t>{0}).id, 1);
}

TEST(Sampler, LogprobIsThatOfTheModel) {
  SamplingOptions options = plain();
  options.temperature = 0;
  options.repetition_penalty = 3;
  options.top_k = 1;
  const SampledToken token = sample_token(kLogits, options, 0, std::vector<int32_t>{1});
  EXPECT_NEAR(token.logprob, kLogits[static_cast<size_t>(token.id)], 1e-6);
}

TEST(Sampler, DrawsAreAFunctionOfSeedAndNumber) {
  SamplingOptions options = plain();
  std::vector<int32_t> first, second, other;
  for (int i = 0; i < 50; ++i) {
    options.seed = 7;
    first.push_back(sample_token(kLogits, options, i, {}).id);
    second.push_back(sample_token(kLogits, options, i, {}).id);
    options.seed = 8;
    other.push_back(sample_token(kLogits, options, i, {}).id);
  }
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const auto refused = [](const char* name, const std::function<void(SamplingOptions&)>& spoil) {
    SamplingOptions options;
    spoil(options);
    expect_error(ExitCode::kConfig, {name}, [&] { check_sampling(options); });
  };
  check_sampling({});
  refused("--max-new-tokens", [](auto& o) { o.max_new_tokens = 0; });
  refused("--temperature", [](auto& o) { o.temperature = -0.1; });
  refused("--temperature", [](auto& o) { o.temperature = std::nan(""); });
  refused("--top-k", [](auto& o) { o.top_k = -1; });
  refused("--top-p", [](auto& o) { o.top_p = 0; });
  refused("--top-p", [](auto& o) { o.top_p = 1.5; });
  refused("--min-p", [](auto& o) { o.min_p = 1; });
  refused("--repetition-penalty", [](auto& o) { o.repetition_penalty = 0; });
}

}  // namespace
}  // namespace ink

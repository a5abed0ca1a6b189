// train.compat.loss_mean: the loss is the mean over micro-batches and ranks of their own means.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/comm/self_group.h"
#include "tests/support/compare.h"
#include "tests/support/group_ranks.h"
#include "tests/support/trainee.h"

namespace ink {
namespace {

// Rows 2 and 3, and row 7 alone: the micro-batches differ in trained tokens.
class LossMeanTest : public testing::Test {
 protected:
  Golden golden_{"internlm2"};
  Fixture fixture_;
  std::vector<HostBatch> micro_batches_ = {fixture_.pack(0, {2, 3}), fixture_.pack(0, {7})};

  [[nodiscard]] int64_t trained() const {
    return micro_batches_[0].trained + micro_batches_[1].trained;
  }
  static TraineeOptions with(LossMean mean) {
    TraineeOptions options;
    options.loss_mean = mean;
    return options;
  }
};

TEST_F(LossMeanTest, IsTheMeanOfMeansAndSoAreTheGradients) {
  ASSERT_NE(micro_batches_[0].trained, micro_batches_[1].trained);
  const auto alone = make_self_group();
  Trainee parts(golden_, *alone);
  double by_hand = 0;
  NamedValues gradients;
  for (const HostBatch& batch : micro_batches_) {
    const auto divisor = 2.0 * static_cast<double>(batch.trained);
    by_hand += parts.backward_of(batch, divisor);
    for (const auto& [name, values] : parts.gradients()) {
      Values& sum = gradients[name];
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
    }
  }
  Trainee tokens(golden_, *alone), means(golden_, *alone, with(LossMean::kMicroBatches));
  const StepResult by_token = tokens.step().run(micro_batches_, trained(), 1);
  const StepResult by_mean = means.step().run(micro_batches_, trained(), 1);
  EXPECT_NEAR(by_mean.loss, by_hand, 1e-6);
  EXPECT_GT(std::abs(by_token.loss - by_hand), 1e-4) << "the two means agree by chance";
  for (const auto& [name, values] : means.gradients()) {
    EXPECT_LE(rel_frobenius(values, gradients[name]), 1e-5) << name;
  }
  const std::string head =
      golden_.options().tie_word_embeddings ? "model.tok_embeddings.weight" : "output.weight";
  EXPECT_GT(rel_frobenius(tokens.gradients().at(head), gradients.at(head)), 1e-3);
}

TEST_F(LossMeanTest, RanksCountAsMicroBatchesDo) {
  const auto alone = make_self_group();
  Trainee serial(golden_, *alone, with(LossMean::kMicroBatches));
  const double expected = serial.step().run(micro_batches_, trained(), 1).loss;
  run_group(2, [&](ProcessGroup& group) {
    Trainee rank(golden_, group, with(LossMean::kMicroBatches));
    const auto own = std::span(micro_batches_).subspan(static_cast<size_t>(group.rank()), 1);
    EXPECT_NEAR(rank.step().run(own, trained(), 1).loss, expected, 1e-6);
    for (const auto& [name, values] : rank.gradients())
      EXPECT_LE(rel_frobenius(values, serial.gradients().at(name)), 1e-5) << name;
  });
}

// 0/0 on one rank: no rank makes the update, and both know why.
TEST_F(LossMeanTest, AMicroBatchWithoutTrainedTokenIsNoNumber) {
  micro_batches_[1] = fixture_.pack(0, {Fixture::kMaskedRow});
  ASSERT_EQ(micro_batches_[1].trained, 0);
  run_group(2, [&](ProcessGroup& group) {
    Trainee rank(golden_, group, with(LossMean::kMicroBatches));
    const NamedValues before = rank.parameters();
    const auto own = std::span(micro_batches_).subspan(static_cast<size_t>(group.rank()), 1);
    const StepResult result = rank.step().run(own, trained(), 1);
    EXPECT_TRUE(std::isnan(result.loss));
    EXPECT_EQ(result.state.skip, 1);
    EXPECT_NE(result.bad_gradient, "");
    EXPECT_EQ(rank.parameters(), before);
  });
  const auto alone = make_self_group();
  Trainee serial(golden_, *alone, with(LossMean::kMicroBatches));
  EXPECT_EQ(serial.step().run(micro_batches_, trained(), 1).state.skip, 1);
  Trainee tokens(golden_, *alone);
  EXPECT_EQ(tokens.step().run(micro_batches_, trained(), 1).state.skip, 0);
}

}  // namespace
}  // namespace ink

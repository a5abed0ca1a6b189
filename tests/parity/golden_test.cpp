// One rank against torch and transformers on the golden models, per tensor.
#include <gtest/gtest.h>

#include <cmath>

#include "models/generate/generator.h"
#include "parallel/comm/self_group.h"
#include "tests/support/compare.h"
#include "tests/support/golden_run.h"

namespace ink {
namespace {

constexpr double kF32 = 1e-5;  // rel-F of one tensor, relative of one number

// On all threads of the machine, where the other tests use one.
TraineeOptions all_threads() {
  TraineeOptions options;
  options.threads = 0;
  return options;
}

class GoldenModel : public testing::TestWithParam<const char*> {
 protected:
  Golden golden_{GetParam()};
  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

TEST_P(GoldenModel, LogitsOfPackedRows) {
  Trainee trainee(golden_, *alone_);
  for (const int64_t row : golden_.numbers("logits.row"))
    EXPECT_LE(logits_distance(trainee, golden_, fixture_, row), kF32) << "row " << row;
}

TEST_P(GoldenModel, LossOfEveryRow) {
  Trainee trainee(golden_, *alone_);
  const auto want = golden_.expected()["loss_sum_per_row"].get<std::vector<double>>();
  for (int64_t row = 0; row < fixture_.rows(); ++row) {
    const double sum = trainee.loss_sum(fixture_.pack(0, {row}));
    EXPECT_NEAR(sum, want[static_cast<size_t>(row)], kF32 * want[static_cast<size_t>(row)])
        << "row " << row;
  }
}

TEST_P(GoldenModel, GradientOfEveryTensor) {
  Trainee trainee(golden_, *alone_, all_threads());
  trainee.backward_of(fixture_.all(0), static_cast<double>(fixture_.trained(0)));
  expect_close(trainee.gradients(), golden_.tensors("grad."), kF32, "gradient");
}

TEST_P(GoldenModel, TenSteps) {
  Trainee trainee(golden_, *alone_);
  const Series run = train(trainee, fixture_);
  expect_series(run.losses, golden_.expected()["loss"], kF32, "loss");
  expect_series(run.norms, golden_.expected()["grad_norm_before_clip"], kF32, "norm");
  expect_series(run.rates, golden_.expected()["lr"], 1e-15, "rate");
}

TEST_P(GoldenModel, TenStepsWithTheUsualEps) {
  TraineeOptions options;
  options.optim.eps = 1e-8;
  Trainee trainee(golden_, *alone_, options);
  expect_series(train(trainee, fixture_).losses, golden_.expected()["loss_with_eps_1e_8"], kF32,
                "loss");
}

TEST_P(GoldenModel, GreedyTokens) {
  Trainee trainee(golden_, *alone_);
  const nlohmann::json& greedy = golden_.expected()["greedy"];
  const auto want = greedy["continuation"].get<std::vector<int32_t>>();
  const Generated got =
      generate(trainee.runtime(), trainee.model(), greedy["prompt"].get<std::vector<int32_t>>(),
               {.max_new_tokens = static_cast<int64_t>(want.size()), .temperature = 0});
  EXPECT_EQ(got.ids, want);
  EXPECT_EQ(got.reason, StopReason::kLength);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModel,
                         testing::Values("internlm2", "internlm2_tied", "internlm2_wide",
                                         "internlm1", "llama_tied", "qwen2_tied"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Golden, ParametersAndMomentsAfterTenSteps) {
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone, all_threads());
  (void)train(trainee, fixture);
  expect_close(trainee.parameters(), golden.tensors("after10.param."), kF32, "parameter");
  expect_close(trainee.first_moments(), golden.tensors("after10.exp_avg."), kF32, "m");
  expect_close(trainee.second_moments(), golden.tensors("after10.exp_avg_sq."), kF32, "v");
}

// Against torch's own error, per tensor, once with everything in bf16 and once with f32 weights
// under autocast.
TEST(Golden, Bf16GradientsWithinTwiceTheErrorOfTorch) {
  const Golden golden("internlm2");
  const Fixture fixture;
  const auto alone = make_self_group();
  TraineeOptions options = all_threads();
  options.compute = DType::kBF16;
  Trainee trainee(golden, *alone, options);
  const double loss = trainee.backward_of(fixture.all(0), static_cast<double>(fixture.trained(0)));
  EXPECT_NEAR(loss, golden.expected()["loss"][0].get<double>(), 2e-3 * loss);
  expect_bf16_gradients(trainee.gradients(), golden);
}

// Dynamic NTK: theta grows with the length of the sequence once it passes the positions of the
// model.
TEST(Golden, InternLM3LogitsAtEveryLength) {
  const Golden golden("internlm3");
  const auto alone = make_self_group();
  Trainee trainee(golden, *alone);
  for (const int64_t length : golden.numbers("tokens.")) {
    EXPECT_LE(document_logits_distance(trainee, golden, length, length), kF32) << length;
    if (length > golden.options().max_position_embeddings) {
      EXPECT_GT(document_logits_distance(trainee, golden, length, 0),
                golden_is_of_the_tree() ? 1e-3 : 10 * kF32)
          << "the angles of length " << length << " are those without scaling";
    }
  }
}

// The whole path learns: one batch to a loss below 0.05.
TEST(Golden, OverfitsOneBatchOfTheTree) {
  if (!golden_is_of_the_tree()) GTEST_SKIP() << kOfTheTree;
  const Golden golden("internlm2_tied");
  const Fixture fixture;
  const auto alone = make_self_group();
  TraineeOptions options;
  options.optim.lr = 1e-2;
  options.optim.weight_decay = 0;
  Trainee trainee(golden, *alone, options);
  const HostBatch batch = fixture.pack(0, {3, 7});
  double loss = 0;
  for (int64_t step = 1; step <= 80; ++step)
    loss = trainee.step().run({&batch, 1}, batch.trained, step).loss;
  EXPECT_LT(loss, 0.05);
}

}  // namespace
}  // namespace ink

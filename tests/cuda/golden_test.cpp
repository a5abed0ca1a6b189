// The golden models on the card, by the same bars as on the processor (tests/parity), and the
// promises that are about the card alone: equal starts, equal repeats, the curve of the processor.
//
// On the host implementation the long runs are made with two models, and on the card with all.
#include <gtest/gtest.h>

#include "engine/kernels/tuning.h"
#include "models/generate/generator.h"
#include "parallel/comm/self_group.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/golden_run.h"

namespace ink {
namespace {

constexpr double kF32 = 1e-5;  // rel-F of one tensor, relative of one number

#ifdef INKSTONE_CUDA_ON_CPU_TEST
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

TraineeOptions on_card() {
  TraineeOptions options;
  options.device = Device::kCuda;
  return options;
}

// As train.deterministic: only then does a library promise equal bits.
void measure_nothing(Trainee& trainee) { tuning_of(trainee.runtime())->measure = false; }

// Two rows of every global batch: short steps, for what needs no golden numbers.
std::vector<double> train_rows(Trainee& trainee, const Fixture& fixture, int64_t steps) {
  std::vector<double> series;
  for (int64_t step = 0; step < steps; ++step) {
    const HostBatch batch = fixture.pack(step, {3, 7});
    const StepResult result = trainee.step().run({&batch, 1}, batch.trained, step + 1);
    series.push_back(result.loss);
    series.push_back(result.state.grad_norm);
  }
  return series;
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
  }
  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

class CudaGoldenModel : public CudaTest, public testing::WithParamInterface<const char*> {
 protected:
  Golden golden_{GetParam()};
};

TEST_P(CudaGoldenModel, LogitsOfPackedRows) {
  Trainee trainee(golden_, *alone_, on_card());
  for (const int64_t row : golden_.numbers("logits.row"))
    EXPECT_LE(logits_distance(trainee, golden_, fixture_, row), kF32) << "row " << row;
}

TEST_P(CudaGoldenModel, GradientOfEveryTensor) {
  Trainee trainee(golden_, *alone_, on_card());
  trainee.backward_of(fixture_.all(0), static_cast<double>(fixture_.trained(0)));
  expect_close(trainee.gradients(), golden_.tensors("grad."), kF32, "gradient");
}

// On the host implementation ten steps take half a minute or more a model: there the one whose
// parameters and moments are compared too, and one with tied weights and biases.
class CudaGoldenSteps : public CudaGoldenModel {};

TEST_P(CudaGoldenSteps, TenSteps) {
  Trainee trainee(golden_, *alone_, on_card());
  const Series run = train(trainee, fixture_);
  expect_series(run.losses, golden_.expected()["loss"], kF32, "loss");
  expect_series(run.norms, golden_.expected()["grad_norm_before_clip"], kF32, "norm");
  expect_series(run.rates, golden_.expected()["lr"], 1e-15, "rate");
  if (std::string(GetParam()) != "internlm2") return;
  expect_close(trainee.parameters(), golden_.tensors("after10.param."), kF32, "parameter");
  expect_close(trainee.first_moments(), golden_.tensors("after10.exp_avg."), kF32, "m");
  expect_close(trainee.second_moments(), golden_.tensors("after10.exp_avg_sq."), kF32, "v");
}

TEST_P(CudaGoldenModel, GreedyTokens) {
  Trainee trainee(golden_, *alone_, on_card());
  const nlohmann::json& greedy = golden_.expected()["greedy"];
  const auto want = greedy["continuation"].get<std::vector<int32_t>>();
  const Generated got =
      generate(trainee.runtime(), trainee.model(), greedy["prompt"].get<std::vector<int32_t>>(),
               {.max_new_tokens = static_cast<int64_t>(want.size()), .temperature = 0});
  EXPECT_EQ(got.ids, want);
}

INSTANTIATE_TEST_SUITE_P(Models, CudaGoldenModel,
                         testing::Values("internlm2", "internlm2_tied", "internlm2_wide",
                                         "internlm1", "llama_tied", "qwen2_tied"),
                         [](const auto& info) { return std::string(info.param); });

INSTANTIATE_TEST_SUITE_P(
    Models, CudaGoldenSteps,
    testing::ValuesIn(kEmulated ? std::vector<const char*>{"internlm2", "qwen2_tied"}
                                : std::vector<const char*>{"internlm2", "internlm2_tied",
                                                           "internlm2_wide", "internlm1",
                                                           "llama_tied", "qwen2_tied"}),
    [](const auto& info) { return std::string(info.param); });

TEST_F(CudaTest, InternLM3LogitsAtEveryLength) {
  const Golden golden("internlm3");
  Trainee trainee(golden, *alone_, on_card());
  for (const int64_t length : golden.numbers("tokens."))
    EXPECT_LE(document_logits_distance(trainee, golden, length, length), kF32) << length;
}

TEST_F(CudaTest, Bf16GradientsWithinTwiceTheErrorOfTorch) {
  const Golden golden("internlm2");
  TraineeOptions options = on_card();
  options.compute = DType::kBF16;
  Trainee trainee(golden, *alone_, options);
  const double loss =
      trainee.backward_of(fixture_.all(0), static_cast<double>(fixture_.trained(0)));
  EXPECT_NEAR(loss, golden.expected()["loss"][0].get<double>(), 2e-3 * loss);
  expect_bf16_gradients(trainee.gradients(), golden);
}

// bf16 noise apart, a curve does not tell on which device it was made.
TEST_F(CudaTest, CurveOfTheProcessor) {
  const Golden golden("internlm2");
  const int64_t steps = kEmulated ? 4 : fixture_.steps();
  TraineeOptions options = on_card();
  options.compute = DType::kBF16;
  Trainee card(golden, *alone_, options);
  options.device = Device::kCpu;
  Trainee processor(golden, *alone_, options);
  const std::vector<double> a = train_rows(card, fixture_, steps);
  const std::vector<double> b = train_rows(processor, fixture_, steps);
  for (size_t i = 0; i < a.size(); i += 2)
    EXPECT_NEAR(a[i], b[i], (i == 0 ? 2e-3 : 1e-2) * b[i]) << "step " << i / 2;
  EXPECT_NE(a, b) << "both ran on the processor";
}

TEST_F(CudaTest, RunsRepeatBitForBit) {
  const Golden golden("internlm2_tied");
  TraineeOptions options = on_card();
  options.compute = DType::kBF16;
  Trainee first(golden, *alone_, options), second(golden, *alone_, options);
  measure_nothing(first);
  measure_nothing(second);
  EXPECT_EQ(train_rows(first, fixture_, 3), train_rows(second, fixture_, 3));
  EXPECT_EQ(first.parameters(), second.parameters());
  EXPECT_EQ(first.second_moments(), second.second_moments());
}

TEST_F(CudaTest, RecomputeChangesNoBit) {
  const Golden golden("internlm2_tied");
  std::vector<NamedValues> gradients;
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    TraineeOptions options = on_card();
    options.compute = DType::kBF16;
    options.recompute = policy;
    Trainee trainee(golden, *alone_, options);
    measure_nothing(trainee);
    trainee.backward_of(fixture_.pack(0, {3, 7}), 100.0);
    gradients.push_back(trainee.gradients());
  }
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}

// The same weights from the same seed, in f32 and rounded.
TEST_F(CudaTest, StartsWithTheValuesOfTheProcessor) {
  for (const DType compute : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<Values> values;
    for (const Device device : {Device::kCpu, Device::kCuda}) {
      Runtime runtime({}, make_backend(device));
      ParameterTable table;
      table.add(whole_parameter("w", {37, 65}, {InitRule::Kind::kNormal, 0.02F}));
      table.add(whole_parameter("n", {65}, {InitRule::Kind::kConstant, 1.0F}));
      table.materialize(runtime, compute);
      table.initialize(7);
      values.push_back(to_values(table.find("w")->value()));
      EXPECT_EQ(to_values(table.find("n")->value()), Values(65, 1.0));
    }
    EXPECT_EQ(values[0], values[1]) << name_of(compute);
  }
}

}  // namespace
}  // namespace ink

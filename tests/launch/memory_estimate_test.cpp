// The estimate that `train --dry-run` prints, beside what a step really takes from the allocator.
#include "launch/trainer/memory_estimate.h"

#include <gtest/gtest.h>

#include "tests/launch/memory_case.h"

namespace ink {
namespace {

class MemoryEstimateTest : public testing::TestWithParam<MemoryCase> {};

TEST_P(MemoryEstimateTest, IsWithinThreePercentOfTheHighWaterMark) {
  const MemoryOfRun memory = memory_of(GetParam());
  const auto truth = static_cast<double>(memory.trained.total_peak);
  EXPECT_NEAR(static_cast<double>(memory.estimate.total()) / truth, 1.0, 0.03)
      << memory.estimate.table() << memory.trained.table();
  EXPECT_EQ(memory.evaluated.total_peak, memory.trained.total_peak)
      << "evaluation takes more than training";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MemoryEstimateTest,
    testing::Values(MemoryCase{.name = "f32"}, MemoryCase{.name = "f32_deep", .layers = 12},
                    MemoryCase{.name = "selective",
                               .mode = RecomputeMode::kSelective,
                               .recompute = Recompute::kSelective,
                               .layers = 12},
                    MemoryCase{.name = "full",
                               .mode = RecomputeMode::kFull,
                               .recompute = Recompute::kFull,
                               .layers = 12},
                    MemoryCase{.name = "bf16", .compute = DType::kBF16},
                    MemoryCase{.name = "bf16_states",
                               .compute = DType::kBF16,
                               .states = StateDtype::kBf16,
                               .layers = 12},
                    MemoryCase{.name = "accumulation", .layers = 8, .micro_batches = 2},
                    MemoryCase{.name = "bf16_gradients",
                               .compute = DType::kBF16,
                               .states = StateDtype::kBf16,
                               .layers = 12,
                               .micro_batches = 2,
                               .gradients = StateDtype::kBf16},
                    MemoryCase{.name = "bf16_gradients_of_a_head_in_chunks",
                               .compute = DType::kBF16,
                               .states = StateDtype::kBf16,
                               .mode = RecomputeMode::kFull,
                               .recompute = Recompute::kFull,
                               .gradients = StateDtype::kBf16,
                               .vocabulary = 23000},
                    MemoryCase{.name = "tied", .layers = 8, .tied = true}),
    [](const auto& info) { return info.param.name; });

// A model of the gallery on a card, as a benchmark runs it.
struct CardRun {
  ModelPlan plan{.compute = DType::kBF16, .device = Device::kCuda};
  RunOptions run;
};

CardRun card_run(int64_t hidden, int64_t inner, int64_t layers, int64_t heads) {
  CardRun made;
  ModelOptions& m = made.plan.options;
  m = model_of({.name = ""});
  m.hidden_size = hidden;
  m.intermediate_size = inner;
  m.num_hidden_layers = layers;
  m.num_attention_heads = heads;
  m.num_key_value_heads = 8;
  m.head_dim = 128;
  m.vocab_size = 92544;
  made.run.data.max_length = 4096;
  made.run.train.accumulation = 8;
  return made;
}

constexpr int64_t kGB = 1'000'000'000;

// 8 bytes a parameter: bf16 weights, gradients and moments.
TEST(MemoryOfACard, TheWholeStepOf7BFits80GB) {
  CardRun seven = card_run(4096, 14336, 32, 32);
  RunOptions& run = seven.run;
  run.train.recompute = RecomputeMode::kSelective;
  run.optim.state_dtype = run.optim.grad_dtype = StateDtype::kBf16;
  const int64_t parameters = parameter_count(seven.plan.options);
  EXPECT_NEAR(static_cast<double>(parameters), 7.74e9, 0.01e9);
  const MemoryEstimate fits = estimate_memory(seven.plan, run);
  EXPECT_NEAR(static_cast<double>(fits.states()), 8.0 * static_cast<double>(parameters), 0.01e9);
  EXPECT_LE(fits.total(), 77 * kGB);
  run.optim.grad_dtype = StateDtype::kF32;
  EXPECT_GT(estimate_memory(seven.plan, run).total(), 80 * kGB);
  EXPECT_NE(memory_levers(seven.plan, run, 80 * kGB).find("optim.grad_dtype: bf16"),
            std::string::npos);
}

TEST(MemoryOfACard, TheStepOf1BFits80GBWithoutRecompute) {
  CardRun small = card_run(2048, 8192, 24, 16);
  small.run.train.micro_batch_size = 4;
  small.run.train.accumulation = 1;
  EXPECT_NEAR(static_cast<double>(parameter_count(small.plan.options)), 1.89e9, 0.01e9);
  EXPECT_LE(estimate_memory(small.plan, small.run).total(), 72 * kGB);
}

// A graph writes to gradients at the addresses that it was recorded with.
TEST(MemoryOfACard, GraphsKeepGradients) {
  CardRun small = card_run(2048, 8192, 24, 16);
  small.run.train.micro_batch_size = 4;
  small.run.train.accumulation = 1;
  const int64_t kept = estimate_memory(small.plan, small.run).total();
  const std::string levers = memory_levers(small.plan, small.run, kept - 1);
  EXPECT_NE(levers.find("train.cuda_graph: false"), std::string::npos) << levers;
  small.run.train.cuda_graph = false;
  const int64_t freed = estimate_memory(small.plan, small.run).total();
  EXPECT_GT(kept - freed, 6 * kGB) << "all gradients but those of the head and of one layer";
  small.run.train.accumulation = 2;
  EXPECT_EQ(estimate_memory(small.plan, small.run).total(), kept)
      << "what several micro-batches add to stays anyway";
  small.plan.device = Device::kCpu;
  small.run.train.cuda_graph = true;
  small.run.train.accumulation = 1;
  EXPECT_LT(estimate_memory(small.plan, small.run).total(), kept) << "the processor has no graphs";
}

}  // namespace
}  // namespace ink

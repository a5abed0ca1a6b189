// The estimate that `train --dry-run` prints, beside what a step really takes from the allocator.
#include "launch/trainer/memory_estimate.h"

#include <gtest/gtest.h>

#include "launch/trainer/train_step.h"
#include "models/family.h"
#include "parallel/comm/self_group.h"

namespace ink {
namespace {

struct Case {
  const char* name;
  DType compute = DType::kF32;
  StateDtype states = StateDtype::kF32;
  RecomputeMode mode = RecomputeMode::kNone;
  Recompute recompute = Recompute::kNone;
  int64_t layers = 4, micro_batches = 1;
  bool tied = false;
  StateDtype gradients = StateDtype::kF32;
  int64_t vocabulary = 5000;
};

ModelOptions model_of(const Case& c) {
  ModelOptions m;
  m.family = Family::kInternLM2;
  m.hidden_size = 256;
  m.intermediate_size = 704;
  m.num_hidden_layers = c.layers;
  m.num_attention_heads = 8;
  m.num_key_value_heads = 2;
  m.head_dim = 32;
  m.vocab_size = c.vocabulary;
  m.max_position_embeddings = 1024;
  m.rms_norm_eps = 1e-5;
  m.rope_theta = 10000;
  m.tie_word_embeddings = c.tied;
  return m;
}

// One pack of `tokens` tokens that is a single document.
HostBatch batch_of(int32_t tokens) {
  HostBatch batch;
  for (int32_t i = 0; i < tokens; ++i) {
    batch.tokens.push_back(i % 4999);
    batch.labels.push_back((i + 1) % 4999);
    batch.positions.push_back(i);
    batch.token_ids.push_back(i);
    batch.documents.push_back(0);
  }
  batch.cu_seqlens = {0, tokens};
  batch.max_seqlen = tokens;
  batch.source_ids = {0};
  batch.sample_ids = {0};
  batch.trained = tokens;
  return batch;
}

class MemoryEstimateTest : public testing::TestWithParam<Case> {};

TEST_P(MemoryEstimateTest, IsWithinThreePercentOfTheHighWaterMark) {
  const Case& c = GetParam();
  constexpr int32_t kTokens = 768;
  RunOptions run;
  run.train.recompute = c.mode;
  run.train.micro_batch_size = 1;
  run.train.accumulation = c.micro_batches;
  run.data.max_length = kTokens;
  run.optim.state_dtype = c.states;
  run.optim.grad_dtype = c.gradients;
  const ModelPlan plan{.options = model_of(c), .compute = c.compute};
  const MemoryEstimate estimate = estimate_memory(plan, run);

  Runtime runtime;
  runtime.recompute = c.recompute;
  ParameterTable table;
  SerialBuilder builder(table);
  const std::unique_ptr<Decoder> model = make_model(builder, plan.options);
  table.materialize(runtime, c.compute,
                    c.gradients == StateDtype::kBf16 ? DType::kBF16 : DType::kF32);
  table.initialize(1);
  AdamW optimizer(runtime, table, run.optim, 10, 1);
  optimizer.initialize_masters(1);
  const std::unique_ptr<ProcessGroup> group = make_self_group();
  TrainStep step(runtime, *model, table, optimizer, *group, {});
  const std::vector<HostBatch> batches(static_cast<size_t>(c.micro_batches), batch_of(kTokens));
  runtime.allocator().reset_peaks();
  for (int64_t i = 1; i <= 2; ++i) {
    step.start({.micro_batches = batches, .trained = kTokens * c.micro_batches, .step = i});
    static_cast<void>(step.finish());
  }
  const auto truth = static_cast<double>(runtime.allocator().report().total_peak);
  EXPECT_NEAR(static_cast<double>(estimate.total()) / truth, 1.0, 0.03)
      << estimate.table() << runtime.allocator().report().table();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MemoryEstimateTest,
    testing::Values(Case{.name = "f32"}, Case{.name = "f32_deep", .layers = 12},
                    Case{.name = "selective",
                         .mode = RecomputeMode::kSelective,
                         .recompute = Recompute::kSelective,
                         .layers = 12},
                    Case{.name = "full",
                         .mode = RecomputeMode::kFull,
                         .recompute = Recompute::kFull,
                         .layers = 12},
                    Case{.name = "bf16", .compute = DType::kBF16},
                    Case{.name = "bf16_states",
                         .compute = DType::kBF16,
                         .states = StateDtype::kBf16,
                         .layers = 12},
                    Case{.name = "accumulation", .layers = 8, .micro_batches = 2},
                    Case{.name = "bf16_gradients",
                         .compute = DType::kBF16,
                         .states = StateDtype::kBf16,
                         .layers = 12,
                         .micro_batches = 2,
                         .gradients = StateDtype::kBf16},
                    Case{.name = "bf16_gradients_of_a_head_in_chunks",
                         .compute = DType::kBF16,
                         .states = StateDtype::kBf16,
                         .mode = RecomputeMode::kFull,
                         .recompute = Recompute::kFull,
                         .gradients = StateDtype::kBf16,
                         .vocabulary = 23000},
                    Case{.name = "tied", .layers = 8, .tied = true}),
    [](const auto& info) { return info.param.name; });

// A model of the gallery on a card, as a benchmark runs it.
struct CardRun {
  ModelPlan plan{.compute = DType::kBF16, .device = Device::kCuda};
  RunOptions run;
};

CardRun card_run(int64_t hidden, int64_t inner, int64_t layers, int64_t heads) {
  CardRun made;
  ModelOptions& m = made.plan.options;
  m = model_of({});
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

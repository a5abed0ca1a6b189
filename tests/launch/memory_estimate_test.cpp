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
  m.vocab_size = 5000;
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
  const ModelPlan plan{.options = model_of(c), .compute = c.compute};
  const MemoryEstimate estimate = estimate_memory(plan, run);

  Runtime runtime;
  runtime.recompute = c.recompute;
  ParameterTable table;
  SerialBuilder builder(table);
  const std::unique_ptr<Decoder> model = make_model(builder, plan.options);
  table.materialize(runtime, c.compute);
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
                    Case{.name = "tied", .layers = 8, .tied = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ink

// The estimate of memory beside what steps on a card take that are recorded as graphs, and an
// evaluation between them.
#include <gtest/gtest.h>

#include "engine/kernels/cuda/cublaslt_plan.h"
#include "engine/ops/attention.h"
#include "engine/tensor/devices.h"
#include "tests/cuda/card.h"
#include "tests/launch/memory_case.h"

namespace ink {
namespace {

// The workspace of libraries is beside the estimate (docs/gpu.md), and as large as so small a
// model.
void without_workspaces(Runtime& runtime) {
  static_cast<CudaBackend&>(runtime.backend()).resource<CublasLt>().max_workspace = 0;
}

// Small, as the host implementation computes it thread by thread.
MemoryCase on_card(MemoryCase c) {
  c.device = Device::kCuda;
  c.prepare = without_workspaces;
  c.layers = 2;
  c.vocabulary = 1200;
  c.tokens = 192;
  return c;
}

class CudaMemory : public testing::TestWithParam<MemoryCase> {
 protected:
  void SetUp() override { choose_attention("plain"); }
  void TearDown() override { choose_attention(""); }

 private:
  static void choose_attention(std::string_view label) {
    if (!has_backend(Device::kCuda)) return;
    attention_forward.choose(Device::kCuda, label);
    attention_backward.choose(Device::kCuda, label);
  }
};

TEST_P(CudaMemory, IsWithinThreePercentOfTheEstimate) {
  if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
  const MemoryOfRun memory = memory_of(on_card(GetParam()));
  const auto truth = static_cast<double>(memory.trained.total_peak);
  EXPECT_NEAR(static_cast<double>(memory.estimate.total()) / truth, 1.0, 0.03)
      << memory.estimate.table() << memory.trained.table();
  EXPECT_EQ(memory.evaluated.total_peak, memory.trained.total_peak);
  // So small a model has tensors that find no gap of their size.
  EXPECT_LE(static_cast<double>(memory.evaluated.reserved),
            1.02 * static_cast<double>(memory.trained.reserved))
      << "evaluation takes memory beside that of training";
  EXPECT_EQ(memory.evaluated.total, memory.trained.total)
      << "what evaluation leaves there would be overwritten by a graph";
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaMemory,
                         testing::Values(MemoryCase{.name = "f32"},
                                         MemoryCase{.name = "bf16_full_recompute",
                                                    .compute = DType::kBF16,
                                                    .mode = RecomputeMode::kFull,
                                                    .recompute = Recompute::kFull,
                                                    .micro_batches = 2}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ink

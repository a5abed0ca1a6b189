// The golden models with every set of CPU kernels that the machine can run, where the other tests
// take the fastest.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/core/cpu_features.h"
#include "engine/ops/attention.h"
#include "parallel/comm/self_group.h"
#include "tests/support/golden_run.h"

namespace ink {
namespace {

constexpr double kF32 = 1e-5;  // rel-F of one tensor, relative of one number

bool runs_here(std::string_view label) {
  if (label == "avx512") return has_avx512();
  return label != "avx2" || has_avx2();
}

class GoldenKernels : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!runs_here(GetParam())) GTEST_SKIP() << "this processor has no " << GetParam();
    choose(GetParam());
  }
  void TearDown() override { choose({}); }

  // In every slot that has it.
  static void choose(std::string_view label) {
    for (KernelSlotBase* slot : KernelSlotBase::all()) {
      const std::vector<std::string_view> labels = slot->labels(Device::kCpu);
      if (label.empty() || std::ranges::find(labels, label) != labels.end())
        slot->choose(Device::kCpu, label);
    }
  }

  Fixture fixture_;
  std::unique_ptr<ProcessGroup> alone_ = make_self_group();
};

TEST_P(GoldenKernels, LogitsGradientsAndSteps) {
  for (const char* name : {"internlm2", "internlm2_wide", "internlm1", "qwen2_tied"}) {
    SCOPED_TRACE(name);
    const Golden golden(name);
    Trainee trainee(golden, *alone_);
    for (const int64_t row : golden.numbers("logits.row"))
      EXPECT_LE(logits_distance(trainee, golden, fixture_, row), kF32) << "row " << row;
    trainee.backward_of(fixture_.all(0), static_cast<double>(fixture_.trained(0)));
    expect_close(trainee.gradients(), golden.tensors("grad."), kF32, "gradient");
    trainee.table().clear_gradients();
    const Series run = train(trainee, fixture_);
    expect_series(run.losses, golden.expected()["loss"], kF32, "loss");
    expect_series(run.norms, golden.expected()["grad_norm_before_clip"], kF32, "norm");
  }
  for (const KernelSlotBase* slot :
       std::initializer_list<KernelSlotBase*>{&attention_forward, &attention_backward})
    EXPECT_STREQ(slot->last_label(Device::kCpu), GetParam()) << slot->name();
}

TEST_P(GoldenKernels, Bf16GradientsWithinTwiceTheErrorOfTorch) {
  const Golden golden("internlm2");
  TraineeOptions options;
  options.compute = DType::kBF16;
  Trainee trainee(golden, *alone_, options);
  trainee.backward_of(fixture_.all(0), static_cast<double>(fixture_.trained(0)));
  expect_bf16_gradients(trainee.gradients(), golden);
}

INSTANTIATE_TEST_SUITE_P(Sets, GoldenKernels, testing::Values("plain", "avx2", "avx512"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ink

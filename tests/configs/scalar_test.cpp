// Values: what is refused names key, range and value; what is accepted is exact.
#include "configs/schema/scalar.h"

#include <gtest/gtest.h>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

struct Refusal {
  std::string yaml, error;
};

TEST(Scalar, RefusalsNameRangeAndValue) {
  const Refusal refusals[] = {
      {"optim: {lr: .nan}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got .nan"},
      {"optim: {lr: .inf}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got .inf"},
      {"optim: {lr: 1e400}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got 1e400"},
      {"optim: {lr: -1}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got -1"},
      {"optim: {lr: 0}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got 0"},
      {"optim: {lr: [1]}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got a list of 1"},
      {"optim: {lr: }",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got nothing"},
      {"optim: {lr: \"0.1\"}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got \"0.1\"\n"
       "hint: a quoted value is text: write it without quotes"},
      {"optim: {lr: 00.1}",
       "error[2]: run.yaml:1:13: optim.lr: expected a finite number above 0, got 00.1\n"
       "hint: write numbers without leading zeros"},
      {"train: {steps: 1.5}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 1.5"},
      {"train: {steps: 1e3}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 1e3"},
      {"train: {steps: 0}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 0"},
      {"train: {steps: 12345678901234567890}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got "
       "12345678901234567890"},
      {"train: {steps: 9900000000000000k}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got "
       "9900000000000000k"},
      {"train: {steps: 010}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 010\n"
       "hint: write numbers without leading zeros"},
      {"train: {steps: 0x10}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 0x10\n"
       "hint: write numbers in decimal"},
      {"train: {steps: 1_000}",
       "error[2]: run.yaml:1:16: train.steps: expected an integer of at least 1, got 1_000\n"
       "hint: write digits without underscores"},
      {"parallel: {zero: 4}",
       "error[2]: run.yaml:1:18: parallel.zero: expected an integer from 0 to 3, got 4"},
      {"train: {label_smoothing: 1}",
       "error[2]: run.yaml:1:26: train.label_smoothing: expected a finite number of at least 0 "
       "and below 1, got 1"},
      {"log: {plot: yes}", "error[2]: run.yaml:1:13: log.plot: expected true or false, got yes"},
      {"log: {plot: True}", "error[2]: run.yaml:1:13: log.plot: expected true or false, got True"},
      {"log: {plot: \"true\"}",
       "error[2]: run.yaml:1:13: log.plot: expected true or false, got \"true\""},
      {"train: {memory_limit: 8gb}",
       "error[2]: run.yaml:1:23: train.memory_limit: expected a size such as 8GB or 512MiB of at "
       "least 1, got 8gb"},
      {"train: {skip_steps: [[5, 2]]}",
       "error[2]: run.yaml:1:22: train.skip_steps.0: expected first <= last, got [5, 2]"},
      {"train: {skip_steps: [[1, 2, 3]]}",
       "error[2]: run.yaml:1:22: train.skip_steps.0: expected a step or a pair [first, last] of "
       "steps from 1 on, got a list of 3"},
      {"optim: {betas: [0.9]}",
       "error[2]: run.yaml:1:16: optim.betas: expected a list of 2, got a list of 1"},
      {"optim: {betas: [0.9, 1]}",
       "error[2]: run.yaml:1:22: optim.betas.1: expected a finite number of at least 0 and below "
       "1, got 1"},
      {"model: {dtype: float}",
       "error[2]: run.yaml:1:16: model.dtype: expected one of fp32|bf16|fp16, got float"},
      {"train: {kind: sft}",
       "error[2]: run.yaml:1:15: train.kind: expected one of pretrain, got sft\n"
       "hint: sft is not built yet"},
      {"data: {train: corpus.txt}",
       "error[2]: run.yaml:1:15: data.train: expected a list, got corpus.txt"},
      {"data: 3", "error[2]: run.yaml:1:7: data: expected a map of keys, got 3"},
      {"[1]", "error[2]: run.yaml:1:1: the file: expected a map of keys, got a list of 1"},
  };
  for (const Refusal& refusal : refusals)
    EXPECT_EQ(read_error(refusal.yaml), refusal.error) << refusal.yaml;
}

TEST(Scalar, AcceptsWhatItShould) {
  const RunOptions run = read_text(R"(
model: {path: "1", dtype: bf16}
data:
  max_length: 4k
  eval: [{name: zh, path: zh.txt}]
optim: {lr: 2e-4, betas: [.9, 0.95], min_lr: 1E-5, eps: 1.e-8}
train:
  steps: 1M
  memory_limit: 8GB
  skip_steps: [[2, 5], 10]
  max_hours: 0.5
log: {plot: false}
kernels: {linear_forward: plain}
faults: {nan_gradient: {step: 3, rank: 1}}
)");
  EXPECT_EQ(run.model.path, "1");
  EXPECT_EQ(run.model.dtype, Precision::kBf16);
  EXPECT_EQ(run.data.max_length, 4000);
  ASSERT_EQ(run.data.eval.sets.size(), 1u);
  EXPECT_EQ(run.data.eval.sets[0].name, "zh");
  EXPECT_EQ(run.optim.lr, 2e-4);
  EXPECT_EQ(run.optim.betas, (std::array{0.9, 0.95}));
  EXPECT_EQ(run.optim.min_lr, 1e-5);
  EXPECT_EQ(run.optim.eps, 1e-8);
  EXPECT_EQ(run.train.steps, 1'000'000);
  EXPECT_EQ(run.train.memory_limit->value, 8'000'000'000);
  ASSERT_EQ(run.train.skip_steps.size(), 2u);
  EXPECT_EQ(run.train.skip_steps[0], (StepRange{2, 5}));
  EXPECT_EQ(run.train.skip_steps[1], (StepRange{10, 10}));
  EXPECT_FALSE(run.log.plot);
  EXPECT_EQ(run.kernels.at("linear_forward"), "plain");
  EXPECT_EQ(run.faults->nan_gradient->rank, 1);
}

TEST(Scalar, SizesHaveDecimalAndBinaryUnits) {
  const auto bytes = [](const std::string& text) {
    return read_text("train: {memory_limit: " + text + "}").train.memory_limit->value;
  };
  EXPECT_EQ(bytes("7"), 7);
  EXPECT_EQ(bytes("7B"), 7);
  EXPECT_EQ(bytes("3kB"), 3'000);
  EXPECT_EQ(bytes("3KB"), 3'000);
  EXPECT_EQ(bytes("3MB"), 3'000'000);
  EXPECT_EQ(bytes("2TB"), 2'000'000'000'000);
  EXPECT_EQ(bytes("3KiB"), 3 * 1024);
  EXPECT_EQ(bytes("512MiB"), 512LL << 20);
  EXPECT_EQ(bytes("8GiB"), 8LL << 30);
}

}  // namespace
}  // namespace ink

// Gradients that are not finite: skipped, counted, and at last an end with code 5.

#include <algorithm>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

using nlohmann::json;

TEST(Numeric, OneSpoiltGradientIsSkipped) {
  const Workplace place;
  place.write_run(
      "train: {steps: 4, global_batch_size: 2}\n"
      "checkpoint: {every: 1, keep: 9, hf: never, async: false}\n"
      "faults: {nan_gradient: {step: 3}}");
  expect_done(place.run({"train", "run.yaml", "--out", "run"}));
  const std::vector<json> steps = step_rows(place / "run");
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps[2]["skip_reason"], "non-finite");
  EXPECT_TRUE(steps[1]["skip_reason"].is_null());
  EXPECT_EQ(steps[3]["skipped"], 1);
  const std::vector<json> warnings =
      event_rows(place / "run", "warning");  // the hook is announced, too
  EXPECT_EQ(std::ranges::count(warnings, "nonfinite",
                               [](const json& row) { return row.at("code").get<std::string>(); }),
            1);
  // Parameters and moments are those of the step before.
  EXPECT_EQ(files_below(place / "run/step-3/state"), files_below(place / "run/step-2/state"));
  EXPECT_NE(files_below(place / "run/step-4/state"), files_below(place / "run/step-3/state"));
}

TEST(Numeric, TooManyInARowEndWithFive) {
  const Workplace place;
  place.write_run(
      "train: {steps: 4, global_batch_size: 2, max_skipped: 1}\n"
      "checkpoint: {every: 1, hf: never, async: false}\n"
      "faults: {nan_gradient: {step: 3}}");
  const ChildResult result = place.run({"train", "run.yaml", "--out", "run", "--quiet"});
  expect_error(result, 5, {"step 3", "train.max_skipped", "step-2"});
  EXPECT_FALSE(std::filesystem::exists(place / "run/step-3"));
  expect_done(place.run({"inspect", "run", "--verify"}));
}

constexpr const char* kBf16[] = {"model.dtype=bf16", "optim.state_dtype=bf16",
                                 "optim.grad_dtype=bf16"};

TEST(Numeric, Bf16GradientsRepeatResumeAndSkipAlike) {
  const Workplace place;
  place.write_run(
      "train: {steps: 4, global_batch_size: 2}\n"
      "checkpoint: {every: 1, keep: 9, hf: never, async: false}\n"
      "faults: {nan_gradient: {step: 3}}");
  const auto train = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"train", "run.yaml"});
    arguments.insert(arguments.end(), std::begin(kBf16), std::end(kBf16));
    expect_done(place.run(arguments));
  };
  train({"--out", "whole"});
  train({"--out", "cut", "--max-steps", "2"});
  train({"--out", "cut", "--resume", "latest"});
  EXPECT_EQ(step_columns(place / "cut"), step_columns(place / "whole"));
  EXPECT_EQ(files_below(place / "cut/step-4/state"), files_below(place / "whole/step-4/state"));
  EXPECT_EQ(files_below(place / "cut/step-3/state"), files_below(place / "cut/step-2/state"))
      << "the spoilt gradient moved something";
  EXPECT_EQ(step_rows(place / "whole")[2]["skip_reason"], "non-finite");
}

TEST(Numeric, Bf16GradientsAreRefusedWhereTheyAreNotBuilt) {
  const Workplace place;
  place.write_run("train: {steps: 4}");
  expect_error(place.run({"train", "run.yaml", "model.dtype=fp32", "optim.grad_dtype=bf16"}), 2,
               {"optim.grad_dtype", "expected fp32", "f32"});
  expect_error(place.run({"train", "run.yaml", "model.dtype=bf16", "optim.grad_dtype=bf16",
                          "train.accumulation=65"}),
               2, {"optim.grad_dtype", "at most 64", "65 micro-batches"});
}

}  // namespace
}  // namespace ink

// The same run under a launcher: equal to one process, stops together, fails with one line.

#include <signal.h>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

class Ranks : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 12, global_batch_size: 4}\n"
        "checkpoint: {every: 1000, hf: never, async: false}");
  }

  Workplace place_;
};

TEST_F(Ranks, TwoRanksEqualOneProcess) {
  expect_done(place_.run({"train", "run.yaml", "--out", "one"}));
  const ChildResult two = place_.run_ranks(2, {"train", "run.yaml", "--out", "two"});
  EXPECT_EQ(two.code, 0) << two.err;
  const StepColumns a = step_columns(place_ / "one"), b = step_columns(place_ / "two");
  ASSERT_EQ(a.size(), 12u);
  ASSERT_EQ(b.size(), 12u);
  for (const auto& [step, row] : a) {
    for (const char* name : {"tokens", "trained_tokens", "lr"})
      EXPECT_EQ(row[name], b.at(step)[name]) << step << " " << name;
    for (const char* name : {"loss", "grad_norm"})
      EXPECT_NEAR(row[name].get<double>(), b.at(step)[name].get<double>(),
                  1e-5 * row[name].get<double>())
          << step << " " << name;
  }
}

// Saved on one rank, continued on two, and the other way round.
TEST_F(Ranks, ResumeOnAnotherLayout) {
  expect_done(place_.run({"train", "run.yaml", "--out", "one"}));
  for (const bool first_alone : {true, false}) {
    const std::string out = first_alone ? "grown" : "shrunk";
    const auto run = [&](bool alone, const std::vector<std::string>& more) {
      std::vector<std::string> arguments = {"train", "run.yaml", "--out", out};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return alone ? place_.run(arguments) : place_.run_ranks(2, arguments);
    };
    EXPECT_EQ(run(first_alone, {"--max-steps", "5"}).code, 0);
    const ChildResult resumed = run(!first_alone, {"--resume", "latest"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    const auto want = step_columns(place_ / "one"), got = step_columns(place_ / out);
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [step, row] : want)
      EXPECT_NEAR(row["loss"].get<double>(), got.at(step)["loss"].get<double>(), 1e-4) << step;
  }
}

// SIGUSR1 to the launcher reaches every rank: the documented way to preempt a job.
TEST_F(Ranks, UserSignalSavesAndGives75) {
  Child child(launcher_of(2, {"train", "run.yaml", "--out", "run", "train.steps=100000",
                              "faults.step_delay_ms=10"}),
              place_.options());
  ASSERT_TRUE(wait_for_step(child, place_ / "run", 3));
  child.signal(SIGUSR1);
  const ChildResult result = child.wait();
  EXPECT_EQ(result.code, 75) << result.err;
  const size_t steps = step_columns(place_ / "run").size();
  EXPECT_TRUE(fs::exists(place_ / "run" / ("step-" + std::to_string(steps))));
  expect_done(place_.run({"inspect", "run", "--verify"}));
}

TEST_F(Ranks, ErrorsOfAllRanksAreOneLine) {
  const ChildResult misspelt = place_.run_ranks(2, {"train", "run.yaml", "train.setps=3"});
  expect_rank_error(misspelt, 2, {"train.steps"});
  const ChildResult indivisible =
      place_.run_ranks(2, {"train", "run.yaml", "train.global_batch_size=3"});
  expect_rank_error(indivisible, 2, {"3"});
  const ChildResult layout = place_.run_ranks(2, {"train", "run.yaml", "parallel.tensor=3"});
  expect_rank_error(layout, 2, {"3"});
  place_.write("taken", "a file");
  expect_rank_error(place_.run_ranks(2, {"train", "run.yaml", "--out", "taken"}), 4, {"taken"});
}

// One rank's NaN is every rank's decision.
TEST_F(Ranks, SpoiltGradientOfOneRankIsSkippedByAll) {
  const ChildResult result =
      place_.run_ranks(2, {"train", "run.yaml", "--out", "run", "train.max_skipped=1", "--quiet",
                           "faults.nan_gradient={step: 2, rank: 1}"});
  expect_rank_error(result, 5, {"step 2"});
}

}  // namespace
}  // namespace ink

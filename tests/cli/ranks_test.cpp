// The same run under a launcher: equal to one process, stops together, fails with one line.

#include <signal.h>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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

// Eight packs of which one has targets: in its step one rank adds nothing and the divisor stays
// that of the whole batch; the other steps have no target at all and change no bit.
TEST_F(Ranks, MaskedRanksAndMaskedSteps) {
  std::string rows;
  for (int row = 0; row < 8; ++row) {
    json ids = json::array(), labels = json::array();
    for (int t = 0; t < 32; ++t) {
      ids.push_back((row * 11 + t * 5) % 90 + 1);
      labels.push_back(row == 3 ? ids.back() : json(-100));
    }
    rows += json{{"input_ids", ids}, {"labels", labels}}.dump() + "\n";
  }
  place_.write("rows.jsonl", rows);
  const auto run = [&](int ranks, const std::string& out) {
    const std::vector<std::string> words = {"train",
                                            "run.yaml",
                                            "--out",
                                            out,
                                            "data.train=[{path: rows.jsonl}]",
                                            "train.steps=4",
                                            "train.global_batch_size=2",
                                            "checkpoint.every=1",
                                            "checkpoint.keep=9"};
    const ChildResult result = ranks > 1 ? place_.run_ranks(ranks, words) : place_.run(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return step_rows(place_ / out);
  };
  const std::vector<json> one = run(1, "one"), two = run(2, "two");
  ASSERT_EQ(one.size(), 4u);
  ASSERT_EQ(two.size(), 4u);
  int empty = 0;
  for (size_t step = 0; step < 4; ++step) {
    EXPECT_EQ(two[step]["trained_tokens"], one[step]["trained_tokens"]);
    if (two[step]["trained_tokens"] == 0) {
      ++empty;
      EXPECT_EQ(two[step]["skip_reason"], "empty");
      if (step == 0) continue;
      EXPECT_EQ(files_below(place_ / "two" / ("step-" + std::to_string(step + 1)) / "state"),
                files_below(place_ / "two" / ("step-" + std::to_string(step)) / "state"));
    } else {
      EXPECT_EQ(two[step]["trained_tokens"], 31);
      for (const char* name : {"loss", "grad_norm"})
        EXPECT_NEAR(two[step][name].get<double>(), one[step][name].get<double>(),
                    1e-5 * one[step][name].get<double>())
            << name;
    }
  }
  EXPECT_EQ(empty, 3);
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

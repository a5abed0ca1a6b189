// Stop requests: the state is saved, 75 is the answer, and the run goes on bit for bit.

#include <signal.h>
#include <unistd.h>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

class Signals : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 60, global_batch_size: 2}\n"
        "checkpoint: {every: 1000, hf: never, async: false}\n"
        "faults: {step_delay_ms: 10}");
  }

  Workplace place_;
};

TEST_F(Signals, StopSavesAndResumeIsExact) {
  expect_done(place_.run({"train", "run.yaml", "--out", "whole"}));
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    SCOPED_TRACE(signal);
    const std::string out = "stopped-" + std::to_string(signal);
    Child child(command_of({"train", "run.yaml", "--out", out}), place_.options());
    ASSERT_TRUE(wait_for_step(child, place_ / out, 5));
    child.signal(signal);
    const ChildResult stopped = child.wait();
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_EQ(stopped.out, "");
    const size_t steps = step_columns(place_ / out).size();
    EXPECT_LT(steps, 60u);
    EXPECT_TRUE(std::filesystem::exists(place_ / out / ("step-" + std::to_string(steps))));
    expect_done(place_.run({"train", "run.yaml", "--out", out, "--resume", "latest"}));
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / "whole"));
    EXPECT_EQ(files_below(place_ / out / "step-60/state"),
              files_below(place_ / "whole/step-60/state"));
  }
}

// Before there is a state to save: a large text is being tokenised. What it leaves is no obstacle.
TEST_F(Signals, StopsWhileTextIsTokenised) {
  std::string rows;
  for (int row = 0; row < 300'000; ++row)
    rows += "{\"tokens\": [" + std::to_string(row % 90) + ", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]}\n";
  place_.write("rows.jsonl", rows);
  Child child(command_of({"train", "run.yaml", "--out", "run", "data.train=[{path: rows.jsonl}]"}),
              place_.options());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!std::filesystem::exists(place_ / "run/cache") && std::chrono::steady_clock::now() < end)
    usleep(1000);
  child.signal(SIGINT);
  expect_error(child.wait(), 75, {"data.train", "nothing is saved"});
  EXPECT_TRUE(files_below(place_ / "run").empty());
  place_.write("rows.jsonl", rows.substr(0, rows.find('\n', 20'000) + 1));
  expect_done(place_.run({"train", "run.yaml", "--out", "run", "data.train=[{path: rows.jsonl}]",
                          "--max-steps", "1"}));
}

TEST_F(Signals, SecondSignalLeavesAtOnce) {
  Child child(command_of({"train", "run.yaml", "--out", "run", "faults.step_delay_ms=20000"}),
              place_.options());
  // The first step sleeps before it is reported: wait for the row that opens the run instead.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (slurp(place_ / "run/metrics.jsonl").empty() && std::chrono::steady_clock::now() < end)
    usleep(5000);
  child.signal(SIGINT);
  usleep(50'000);
  EXPECT_TRUE(child.running());
  const auto start = std::chrono::steady_clock::now();
  child.signal(SIGINT);
  EXPECT_EQ(child.wait().code, 128 + SIGINT);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

// Evaluation polls: it is left in the middle, without a row of its own.
TEST_F(Signals, StopsInAnEvaluation) {
  std::string rows;
  for (int row = 0; row < 4000; ++row) {
    rows += "{\"tokens\": [" + std::to_string(row % 90);
    for (int t = 1; t < 32; ++t) rows += ", " + std::to_string((row * 7 + t * 3) % 90);
    rows += "]}\n";
  }
  place_.write("held.jsonl", rows);
  Child child(command_of({"train", "run.yaml", "--out", "run", "data.eval={path: held.jsonl}"}),
              place_.options());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (slurp(place_ / "run/metrics.jsonl").empty() && std::chrono::steady_clock::now() < end)
    usleep(2000);
  child.signal(SIGTERM);
  const ChildResult stopped = child.wait();
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_TRUE(event_rows(place_ / "run", "eval").empty());
  EXPECT_TRUE(step_rows(place_ / "run").empty());
  expect_done(place_.run({"inspect", "run", "--verify"}));
  expect_done(
      place_.run({"train", "run.yaml", "--out", "run", "--resume", "latest",
                  "data.eval={path: held.jsonl}", "train.eval_batches=1", "--max-steps", "2"}));
  EXPECT_EQ(step_rows(place_ / "run").size(), 2u);
}

// Signals that meet a save: once, the save is finished; twice, what is published is whole.
TEST_F(Signals, OnceAndTwiceDuringASave) {
  for (const int signals : {1, 2}) {
    SCOPED_TRACE(signals);
    const std::string out = "run-" + std::to_string(signals);
    Child child(
        command_of({"train", "run.yaml", "--out", out, "checkpoint.every=1", "train.steps=20"}),
        place_.options());
    ASSERT_TRUE(wait_for_step(child, place_ / out, 3));
    const auto saving = [&] {
      for (const auto& entry : std::filesystem::directory_iterator(place_ / out))
        if (entry.path().filename().string().find(".tmp-") != std::string::npos) return true;
      return false;
    };
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!saving() && std::chrono::steady_clock::now() < end) usleep(200);
    for (int i = 0; i < signals; ++i) {
      child.signal(SIGTERM);
      usleep(1000);
    }
    const int code = child.wait().code;
    // The second signal may come when everything is over.
    EXPECT_TRUE(code == 75 || (signals == 2 && code == 128 + SIGTERM)) << code;
    expect_done(place_.run({"inspect", out, "--verify"}));
    expect_done(
        place_.run({"train", "run.yaml", "--out", out, "--resume", "latest", "train.steps=20"}));
    EXPECT_EQ(step_columns(place_ / out).size(), 20u);
  }
}

TEST_F(Signals, MaxHoursSavesAndLeavesWith75) {
  const ChildResult result = place_.run(
      {"train", "run.yaml", "--out", "run", "train.max_hours=0.0001", "train.steps=1000000"});
  EXPECT_EQ(result.code, 75) << result.err;
  const size_t steps = step_columns(place_ / "run").size();
  ASSERT_GE(steps, 1u);
  EXPECT_TRUE(std::filesystem::exists(place_ / "run" / ("step-" + std::to_string(steps))));
  expect_done(place_.run({"inspect", "run", "--verify"}));
}

}  // namespace
}  // namespace ink

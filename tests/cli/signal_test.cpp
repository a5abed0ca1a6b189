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

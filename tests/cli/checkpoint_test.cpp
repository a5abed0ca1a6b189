// Checkpoints as a user meets them: resume, damage, full disks, kills.

#include <signal.h>

#include <algorithm>
#include <fstream>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// A finished run of six steps with saves at 2, 4 and 6.
class Checkpoint : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 6, global_batch_size: 2}\n"
        "checkpoint: {every: 2, hf: never, async: false}");
  }
  ChildResult train(const std::string& out, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train", "run.yaml", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments);
  }
  void expect_same_state(const std::string& a, const std::string& b) const {
    EXPECT_EQ(files_below(place_ / a / "state"), files_below(place_ / b / "state"));
  }

  Workplace place_;
};

TEST_F(Checkpoint, SameSeedSameBytes) {
  expect_done(train("one"));
  expect_done(train("two"));
  EXPECT_EQ(step_columns(place_ / "one"), step_columns(place_ / "two"));
  expect_same_state("one/step-6", "two/step-6");
}

TEST_F(Checkpoint, BackgroundSaveWritesTheSameBytes) {
  expect_done(train("one"));
  expect_done(train("two", {"checkpoint.async=true"}));
  for (const char* step : {"/step-2", "/step-4", "/step-6"})
    expect_same_state(std::string("one") + step, std::string("two") + step);
}

TEST_F(Checkpoint, MaxStepsStopsEarlyAndResumeIsExact) {
  expect_done(train("whole"));
  for (const char* steps : {"1", "3", "4", "5"}) {
    const std::string out = std::string("part-") + steps;
    expect_done(train(out, {"--max-steps", steps}));
    EXPECT_EQ(step_columns(place_ / out).size(), std::stoul(steps));
    expect_done(train(out, {"--resume", "latest"}));
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / "whole")) << steps;
    expect_same_state(out + "/step-6", "whole/step-6");
  }
}

TEST_F(Checkpoint, ResumeAcrossAnEpochEnd) {
  place_.write_run(
      "train: {epochs: 2, global_batch_size: 16}\n"
      "checkpoint: {every: 100, hf: never, async: false}");
  expect_done(train("whole"));
  const auto rows = step_columns(place_ / "whole");
  ASSERT_GT(rows.size(), 4u);
  const std::string half = std::to_string(rows.size() / 2);
  expect_done(train("part", {"--max-steps", half}));
  expect_done(train("part", {"--resume", "latest"}));
  EXPECT_EQ(step_columns(place_ / "part"), rows);
}

TEST_F(Checkpoint, KeepLeavesTheNewest) {
  expect_done(train("run", {"checkpoint.every=1", "checkpoint.keep=2"}));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(place_ / "run"))
    if (entry.path().filename().string().starts_with("step-"))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"step-5", "step-6"}));
}

TEST_F(Checkpoint, ResumeFromNowhere) {
  expect_error(train("run", {"--resume", "absent"}), 3, {"absent"});
  const ChildResult fresh = train("run2", {"--resume", "latest", "--max-steps", "1"});
  expect_done(fresh);
  EXPECT_NE(fresh.err.find("no checkpoint in run2: a fresh start"), std::string::npos) << fresh.err;
}

TEST_F(Checkpoint, SecondRunNeedsResumeOrOverwrite) {
  expect_done(train("run"));
  const auto before = files_below(place_ / "run");
  expect_error(train("run"), 4, {"--resume latest", "--overwrite"});
  EXPECT_EQ(files_below(place_ / "run").at("metrics.jsonl"), before.at("metrics.jsonl"));
  expect_done(train("run", {"--overwrite", "--max-steps", "1"}));
  EXPECT_EQ(step_columns(place_ / "run").size(), 1u);
}

// A save of one run must not become a step of another one.
TEST_F(Checkpoint, ResumeIntoADirectoryOfAnotherRunIsRefused) {
  expect_done(train("one"));
  expect_done(train("two", {"train.seed=7"}));
  const auto before = files_below(place_ / "two/step-6");
  expect_error(train("two", {"--resume", "one/step-2"}), 4, {"two", "holds a run", "--out"});
  EXPECT_EQ(files_below(place_ / "two/step-6"), before);
  expect_done(train("three", {"--resume", "one/step-2"}));
  expect_same_state("three/step-6", "one/step-6");
  // The same directory by another name is no other one.
  fs::create_directory_symlink("one", place_ / "link");
  expect_done(train("link", {"--resume", "one", "train.steps=7"}));
  EXPECT_TRUE(fs::exists(place_ / "one/step-7"));
}

// What `train` would refuse, and without a trace.
TEST_F(Checkpoint, DryRunLooksAtTheSave) {
  expect_done(train("run"));
  const auto before = files_below(place_.path());
  expect_error(train("run", {"--dry-run", "--resume", "absent"}), 3, {"absent"});
  expect_done(train("run", {"--dry-run", "--resume"}));
  EXPECT_EQ(files_below(place_.path()), before);
}

// A run that has nothing left to do has no loss of its own.
TEST_F(Checkpoint, ResumeAtTheEnd) {
  expect_done(train("run"));
  expect_done(train("run", {"--resume"}));
  const auto ends = event_rows(place_ / "run", "end");
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_TRUE(ends[0].at("final_loss").is_number());
  EXPECT_TRUE(ends[1].at("final_loss").is_null());
}

// Every file of the newest save in turn: cut, flipped, emptied, removed, from another step.
TEST_F(Checkpoint, DamageIsFoundAndPassedOver) {
  expect_done(train("good"));
  const std::vector<std::string> damages = {"cut", "flip", "zero", "remove", "other step"};
  for (const auto& [name, bytes] : files_below(place_ / "good/step-6")) {
    for (const std::string& damage : damages) {
      SCOPED_TRACE(name + " " + damage);
      fs::remove_all(place_ / "run");
      fs::copy(place_ / "good", place_ / "run", fs::copy_options::recursive);
      const fs::path file = place_ / "run/step-6" / name;
      std::string spoilt = bytes;
      if (damage == "cut") spoilt.pop_back();
      if (damage == "flip") spoilt[spoilt.size() / 2] ^= 1;
      if (damage == "zero") spoilt.clear();
      if (damage == "other step") spoilt = slurp(place_ / "good/step-4" / name);
      if (damage == "remove") {
        fs::remove(file);
      } else {
        std::ofstream(file, std::ios::binary) << spoilt;
      }
      expect_error(place_.run({"inspect", "run/step-6", "--verify"}), 3, {"step-6"});
      expect_error(train("other", {"--resume", "run/step-6"}), 3, {"step-6"});
      fs::remove_all(place_ / "other");
      const ChildResult resumed = train("run", {"--resume", "latest"});
      expect_done(resumed);
      EXPECT_NE(resumed.err.find("step-6 is passed over"), std::string::npos) << resumed.err;
      expect_same_state("run/step-6", "good/step-6");
    }
  }
}

TEST_F(Checkpoint, OtherModelOrDataIsRefused) {
  expect_done(train("run", {"--max-steps", "2"}));
  const auto before = files_below(place_ / "run/step-2");
  expect_error(train("run", {"--resume", "latest", "model.hidden_size=48"}), 3,
               {"[96, 48]", "[96, 32]"});
  expect_error(train("run", {"--resume", "latest",
                             "data.train=[{synthetic: {documents: 65, length: 40}}]", "--quiet"}),
               3, {"65"});
  EXPECT_EQ(files_below(place_ / "run/step-2"), before);
}

// A limit on the size of files stands for a full disk.
TEST_F(Checkpoint, FullDiskInMidSave) {
  for (const char* async : {"checkpoint.async=false", "checkpoint.async=true"}) {
    SCOPED_TRACE(async);
    fs::remove_all(place_ / "run");
    expect_done(train("run", {"--max-steps", "2"}));
    const auto before = files_below(place_ / "run/step-2");
    ChildOptions options = place_.options();
    options.file_limit = 60'000;
    const ChildResult result = place_.run(
        {"train", "run.yaml", "--out", "run", "--resume", "latest", async, "--quiet"}, options);
    expect_error(result, 4, {"File too large"});
    EXPECT_EQ(files_below(place_ / "run/step-2"), before);
    EXPECT_FALSE(fs::exists(place_ / "run/step-4"));
    expect_done(train("run", {"--resume", "latest"}));
  }
}

TEST_F(Checkpoint, TwoRunsInOneDirectory) {
  Child first(command_of({"train", "run.yaml", "--out", "run", "train.steps=1000",
                          "faults.step_delay_ms=20"}),
              place_.options());
  ASSERT_TRUE(wait_for_step(first, place_ / "run", 1));
  expect_error(train("run", {"--resume", "latest"}), 4, {"in use by run"});
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait().code, 75);
}

}  // namespace
}  // namespace ink

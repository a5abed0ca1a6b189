// Guards of a run under the launcher: replicas that differ, decisions that all ranks share, and a
// rank whose view of the run directory is older than that of rank 0.

#include "tests/cli/guard_case.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class GuardedRanks : public testing::Test {
 protected:
  void SetUp() override {
    place_.write_run(
        "train: {steps: 8, global_batch_size: 4}\n"
        "checkpoint: {every: 4, hf: never, async: false}");
  }
  [[nodiscard]] ChildResult train(int ranks, const std::string& out,
                                  const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"train", "run.yaml", "--out", out};
    words.insert(words.end(), more.begin(), more.end());
    return ranks == 1 ? place_.run(words) : place_.run_ranks(ranks, words);
  }
  Workplace place_;
};

TEST_F(GuardedRanks, SelfCheckIsQuietAndChangesNoBit) {
  const ChildResult checked = train(2, "checked", {"train.self_check_every=2"});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_EQ(train(2, "free", {}).code, 0);
  EXPECT_EQ(step_columns(place_ / "checked"), step_columns(place_ / "free"));
  EXPECT_EQ(files_below(place_ / "checked/step-8/state"),
            files_below(place_ / "free/step-8/state"));
  const std::vector<json> rows = event_rows(place_ / "checked", "self_check");
  ASSERT_EQ(rows.size(), 5u);  // 1, 2, 4, 6, 8
  for (const json& row : rows) {
    EXPECT_EQ(row.at("ranks"), 2);
    EXPECT_GT(row.at("compared"), 60);
    EXPECT_GT(row.at("seconds"), 0);
  }
}

// In a step between two checks: the next one finds it. In the step of a check: that one.
TEST_F(GuardedRanks, AFlippedBitIsFoundWithinTheInterval) {
  struct Case {
    std::string fault, found_in, item;
  };
  const Case cases[] = {
      {"faults.flip_parameter_bit={step: 3, rank: 1}", "step 4", "param/head.weight"},
      {"faults.flip_parameter_bit={step: 4, rank: 0, parameter: layers.1.attention.wqkv.weight, "
       "element: 5, bit: 0}",
       "step 4", "param/layers.1.attention.wqkv.weight"},
      {"faults.flip_gradient_bit={step: 4, rank: 1}", "step 4", "gradient/head.weight"},
      {"faults.flip_gradient_bit={step: 3, rank: 1, bit: 20}", "step 4", "param/"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.fault);
    fs::remove_all(place_ / "run");
    const ChildResult result =
        train(2, "run", {"--quiet", "train.self_check_every=2", "checkpoint.every=1", one.fault});
    expect_rank_error(result, 5,
                      {one.found_in + ": " + one.item, "expected equal replicas, got ",
                       " on rank 0, ", " on rank 1", "that passed is that of step 2"});
    EXPECT_FALSE(fs::exists(place_ / "run/step-4")) << "a save behind the check that failed";
  }
}

TEST_F(GuardedRanks, WithoutTheCheckAFlippedBitGoesUnseen) {
  const ChildResult result = train(2, "run", {"faults.flip_parameter_bit={step: 3, rank: 1}"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("warning[faults]"), std::string::npos) << result.err;
}

// The poisoned row is rank 1's; both name it and skip the step.
TEST_F(GuardedRanks, ASpikeIsOneDecision) {
  const PoisonedRun poisoned(place_);
  for (const int ranks : {1, 2}) {
    const std::string out = "run" + std::to_string(ranks);
    const std::vector<std::string> words = PoisonedRun::arguments(
        out,
        {"train.loss_watchdog.action=skip", "checkpoint.every=100", "train.self_check_every=5"});
    const ChildResult result = ranks == 1 ? place_.run(words) : place_.run_ranks(ranks, words);
    EXPECT_EQ(result.code, 0) << result.err;
    std::vector<json> spikes = event_rows(place_ / out, "warning");
    std::erase_if(spikes, [](const json& row) { return row.at("code") != "loss_spike"; });
    ASSERT_EQ(spikes.size(), 1u);
    EXPECT_EQ(spikes[0].at("step"), PoisonedRun::kStep);
    EXPECT_EQ(spikes[0].at("packs"), json({50, 51}));
    const std::vector<json> steps = step_rows(place_ / out);
    ASSERT_EQ(steps.size(), 30u);
    EXPECT_EQ(steps[PoisonedRun::kStep - 1].at("skip_reason"), "loss_spike");
    EXPECT_EQ(steps.back().at("skipped"), 1);
  }
  const ChildResult stopped = place_.run_ranks(
      2, PoisonedRun::arguments("stop", {"train.loss_watchdog.action=stop", "--quiet"}));
  expect_rank_error(stopped, 5, {"step 26: ", "train.loss_watchdog", "step-25"});
}

TEST_F(GuardedRanks, AllGoBackTogether) {
  const PoisonedRun poisoned(place_);
  const auto run = [&](const std::string& out, const std::vector<std::string>& more) {
    const ChildResult result = place_.run_ranks(2, PoisonedRun::arguments(out, more));
    EXPECT_EQ(result.code, 0) << result.err;
  };
  run("skipped", {"train.skip_steps=[26]"});
  run("run", {"train.loss_watchdog.action=rollback", "checkpoint.every=10", "--self-check"});
  EXPECT_EQ(step_columns(place_ / "run"), step_columns(place_ / "skipped"));
  EXPECT_EQ(files_below(place_ / "run/step-30/state"),
            files_below(place_ / "skipped/step-30/state"));
  EXPECT_EQ(event_rows(place_ / "run", "checkpoint").size(), 3u);
}

// Rank 1's listings and look-ups know nothing of step-N, as on a file system whose attributes are
// cached: it does what rank 0 decided and reads what rank 0 names.
TEST_F(GuardedRanks, AnOlderViewOfTheRunDirectoryDecidesNothing) {
  EXPECT_EQ(train(2, "whole", {}).code, 0);
  EXPECT_EQ(train(2, "run", {"--max-steps", "5"}).code, 0);
  const std::vector<std::string> words = {"train", "run.yaml", "--out", "run", "--resume"};
  std::vector<std::string> command = launcher_of(1, words);
  command.insert(command.end(), {":", "-np", "1", "env", "ASAN_OPTIONS=verify_asan_link_order=0",
                                 std::string("LD_PRELOAD=") + INKSTONE_STALE_VIEW});
  for (const std::string& word : command_of(words)) command.push_back(word);
  // The older view is one: a listing through it lacks what is there.
  const ChildResult listing = run_child(
      {"env", std::string("LD_PRELOAD=") + INKSTONE_STALE_VIEW, "ls", (place_ / "run").string()});
  EXPECT_EQ(listing.out.find("step-5"), std::string::npos) << listing.out;
  EXPECT_NE(listing.out.find("metrics.jsonl"), std::string::npos) << listing.out;
  const ChildResult resumed = run_child(command, place_.options());
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("resumed  run/step-5"), std::string::npos) << resumed.err;
  EXPECT_EQ(step_columns(place_ / "run"), step_columns(place_ / "whole"));
  EXPECT_EQ(files_below(place_ / "run/step-8/state"), files_below(place_ / "whole/step-8/state"));
}

// Rank 1 works in a folder whose run directory is of an earlier day: it must not go on from there.
TEST_F(GuardedRanks, AnOlderCheckpointOfOneRankIsNotTaken) {
  EXPECT_EQ(train(2, "run", {"--max-steps", "4"}).code, 0);
  fs::create_directories(place_ / "b");
  fs::copy(place_ / "run", place_ / "b/run", fs::copy_options::recursive);
  fs::copy_file(place_ / "run.yaml", place_ / "b/run.yaml");
  EXPECT_EQ(train(2, "run", {"--max-steps", "6", "--resume"}).code, 0);
  const std::vector<std::string> program =
      command_of({"train", "run.yaml", "--out", "run", "--resume", "--quiet"});
  std::vector<std::string> command = {
      "mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "1",
      "-wdir",  place_.path().string()};
  command.insert(command.end(), program.begin(), program.end());
  command.insert(command.end(), {":", "-np", "1", "-wdir", (place_ / "b").string()});
  command.insert(command.end(), program.begin(), program.end());
  expect_rank_error(run_child(command, place_.options()), 3, {"step-6/state"});
  EXPECT_EQ(step_columns(place_ / "run").size(), 6u);
}

}  // namespace
}  // namespace ink

// Guards of a run on one process: the loss watchdog, the best checkpoint, the self-check.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <set>

#include "tests/cli/guard_case.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<json> spikes(const fs::path& run) {
  std::vector<json> rows = event_rows(run, "warning");
  std::erase_if(rows, [](const json& row) { return row.at("code") != "loss_spike"; });
  return rows;
}

std::vector<std::string> checkpoints(const fs::path& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.path().filename().string().starts_with("step-"))
      names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

json inspect(const Workplace& place, const std::string& path) {
  const ChildResult result = place.run({"inspect", path, "--json"});
  expect_done(result);
  return result.code == 0 ? json::parse(result.out) : json();
}

class Watchdog : public testing::Test {
 protected:
  [[nodiscard]] ChildResult train(const std::string& out,
                                  const std::vector<std::string>& more) const {
    return place_.run(PoisonedRun::arguments(out, more));
  }
  Workplace place_;
  PoisonedRun poisoned_{place_};
};

TEST_F(Watchdog, ASpikeIsToldWithItsPacksAndItsSaveIsMarked) {
  const ChildResult result = train("run", {});
  expect_done(result);
  const std::vector<json> rows = spikes(place_ / "run");
  ASSERT_FALSE(rows.empty());
  const json& first = rows.front();
  EXPECT_EQ(first.at("step"), PoisonedRun::kStep);
  EXPECT_EQ(first.at("packs"), json({50, 51}));
  EXPECT_GT(first.at("loss").get<double>(), 5 * first.at("reference").get<double>());
  EXPECT_EQ(first.at("loss"), step_columns(place_ / "run").at(PoisonedRun::kStep).at("loss"));
  EXPECT_EQ(first.at("action"), "warn");
  EXPECT_NE(result.err.find("warning[loss_spike]: step 26: the loss "), std::string::npos)
      << result.err;
  // By these numbers the packs are found again.
  std::vector<std::string> words = PoisonedRun::arguments("run", {"--packed", "--row", "50"});
  words.erase(words.begin());                         // train
  words.erase(words.begin() + 1, words.begin() + 3);  // --out run
  words.insert(words.begin(), {"data", "inspect"});
  const ChildResult shown = place_.run(words);
  expect_done(shown);
  EXPECT_TRUE(shown.out.starts_with("pack 50 of train: rows.jsonl:48, 32 tokens")) << shown.out;
  // Every save and only a save of a step in the spike is marked, wherever one looks.
  std::set<int64_t> marked;
  for (const json& row : rows) marked.insert(row.at("step").get<int64_t>());
  for (const json& row : event_rows(place_ / "run", "checkpoint"))
    EXPECT_EQ(row.at("loss_spike").get<bool>(), marked.contains(row.at("step").get<int64_t>()));
  for (const json& row : inspect(place_, "run").at("checkpoints"))
    EXPECT_EQ(row.contains("loss_spike"), marked.contains(row.at("step").get<int64_t>()));
  EXPECT_EQ(inspect(place_, "run/step-26").at("loss_spike").at("since"), PoisonedRun::kStep);
  EXPECT_FALSE(inspect(place_, "run/step-25").contains("loss_spike"));
  // Going on from one is told.
  const ChildResult resumed = place_.run(PoisonedRun::arguments(
      "other", {"--resume", "run/step-26", "--max-steps", "27", "checkpoint.every=100"}));
  expect_done(resumed);
  EXPECT_NE(resumed.err.find("run/step-26 was saved in a loss spike"), std::string::npos)
      << resumed.err;
}

TEST_F(Watchdog, SkipLeavesEveryBitAndGoesOn) {
  expect_done(train("run", {"train.loss_watchdog.action=skip"}));
  const std::vector<json> rows = spikes(place_ / "run"), steps = step_rows(place_ / "run");
  ASSERT_EQ(rows.size(), 1u) << "the model is as it was, so the next step is in line";
  EXPECT_EQ(rows[0].at("action"), "skip");
  ASSERT_EQ(steps.size(), 30u);
  const json& skipped = steps[PoisonedRun::kStep - 1];
  EXPECT_EQ(skipped.at("skip_reason"), "loss_spike");
  EXPECT_EQ(skipped.at("skipped"), 1);
  EXPECT_GT(skipped.at("loss").get<double>(), 1);
  EXPECT_GT(skipped.at("grad_norm").get<double>(), 0);
  EXPECT_TRUE(steps[PoisonedRun::kStep].at("skip_reason").is_null());
  EXPECT_EQ(files_below(place_ / "run/step-26/state"), files_below(place_ / "run/step-25/state"));
  EXPECT_NE(files_below(place_ / "run/step-27/state"), files_below(place_ / "run/step-26/state"));
  // Until the poison nothing is other than without a watchdog.
  expect_done(train("free", {"train.loss_watchdog=null"}));
  const auto guarded = step_columns(place_ / "run"), free = step_columns(place_ / "free");
  for (int64_t step = 1; step < PoisonedRun::kStep; ++step)
    EXPECT_EQ(guarded.at(step), free.at(step)) << step;
  for (const char* name : {"loss", "grad_norm", "tokens"})
    EXPECT_EQ(guarded.at(PoisonedRun::kStep)[name], free.at(PoisonedRun::kStep)[name]) << name;
  EXPECT_TRUE(spikes(place_ / "free").empty());
}

// The reference is part of the state: stopped before the spike, in it and behind it.
TEST_F(Watchdog, ResumeDecidesAlike) {
  for (const char* action : {"warn", "skip"}) {
    const std::string set = std::string("train.loss_watchdog.action=") + action;
    const std::string whole = std::string("whole-") + action;
    expect_done(train(whole, {set}));
    for (const char* stop : {"5", "23", "26", "27"}) {
      const std::string out = std::string("part-") + action + stop;
      expect_done(train(out, {set, "--max-steps", stop}));
      expect_done(train(out, {set, "--resume"}));
      EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / whole)) << stop;
      EXPECT_EQ(spikes(place_ / out), spikes(place_ / whole)) << stop;
      EXPECT_EQ(files_below(place_ / out / "step-30/state"),
                files_below(place_ / whole / "step-30/state"))
          << stop;
    }
  }
}

TEST_F(Watchdog, StopEndsWithFiveAndNamesTheLastGoodSave) {
  const ChildResult result = train("run", {"train.loss_watchdog.action=stop", "--quiet"});
  expect_error(result, 5, {"step 26: ", "train.loss_watchdog", "5 times the median", "step-25"});
  EXPECT_FALSE(fs::exists(place_ / "run/step-26"));
  EXPECT_EQ(spikes(place_ / "run").at(0).at("action"), "stop");
}

TEST_F(Watchdog, SkipsInARowEndWithFive) {
  const ChildResult result =
      train("run", {"train.loss_watchdog.action=skip", "train.max_skipped=1", "--quiet"});
  expect_error(result, 5, {"step 26", "a loss without a spike", "train.max_skipped", "step-25"});
}

// The evaluation in the spike is the first one: it would be the best.
TEST_F(Watchdog, ASaveInASpikeIsNeverTheBest) {
  const std::vector<std::string> eval = {"data.eval={path: poison.jsonl}", "train.eval_every=26",
                                         "checkpoint.keep_best=eval_loss", "checkpoint.every=100"};
  expect_done(train("run", eval));
  EXPECT_EQ(checkpoints(place_ / "run"), (std::vector<std::string>{"step-30"}));
  EXPECT_EQ(inspect(place_, "run").at("best").at("step"), 30);
  std::vector<std::string> free = eval;
  free.emplace_back("train.loss_watchdog=null");
  expect_done(train("free", free));
  EXPECT_TRUE(fs::exists(place_ / "free/step-26"));
}

std::vector<json> rollbacks(const fs::path& run) {
  std::vector<json> rows = event_rows(run, "warning");
  std::erase_if(rows, [](const json& row) { return row.at("code") != "rollback"; });
  return rows;
}

// Back and past the spike is the run that was told to skip that step from the beginning.
TEST_F(Watchdog, RollbackIsTheRunWithoutTheSpike) {
  expect_done(train("skipped", {"train.skip_steps=[26]"}));
  for (const auto& [every, save] : {std::pair{"1", 25}, {"10", 20}}) {
    SCOPED_TRACE(every);
    const std::string out = std::string("run-") + every;
    const ChildResult result = train(
        out, {"train.loss_watchdog.action=rollback", std::string("checkpoint.every=") + every});
    expect_done(result);
    const std::vector<json> told = rollbacks(place_ / out);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].at("step"), 26);
    EXPECT_EQ(told[0].at("to"), save);
    EXPECT_EQ(told[0].at("passed_over"), json({26, 26}));
    EXPECT_EQ(told[0].at("count"), 1);
    ASSERT_EQ(spikes(place_ / out).size(), 1u);
    EXPECT_EQ(spikes(place_ / out)[0].at("action"), "rollback");
    EXPECT_NE(result.err.find("then without step 26"), std::string::npos) << result.err;
    EXPECT_EQ(step_rows(place_ / out).size(), static_cast<size_t>(26 + 30 - save));
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / "skipped"));
    EXPECT_EQ(files_below(place_ / out / "step-30/state"),
              files_below(place_ / "skipped/step-30/state"));
    for (const json& row : event_rows(place_ / out, "checkpoint"))
      EXPECT_FALSE(row.at("loss_spike").get<bool>()) << row;
  }
}

// Stopped before the spike, where it was passed over, and behind it.
TEST_F(Watchdog, ResumeKnowsWhatARollbackPassedOver) {
  const std::vector<std::string> how = {"train.loss_watchdog.action=rollback",
                                        "checkpoint.every=10"};
  expect_done(train("whole", how));
  for (const char* stop : {"23", "26", "28"}) {
    SCOPED_TRACE(stop);
    const std::string out = std::string("part-") + stop;
    std::vector<std::string> first = how, then = how;
    first.insert(first.end(), {"--max-steps", stop});
    then.emplace_back("--resume");
    expect_done(train(out, first));
    expect_done(train(out, then));
    EXPECT_EQ(rollbacks(place_ / out).size(), 1u);
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / "whole"));
    EXPECT_EQ(files_below(place_ / out / "step-30/state"),
              files_below(place_ / "whole/step-30/state"));
  }
  // Of a save behind it, another action changes nothing of what was passed over.
  expect_done(train("warn", {"--resume", "part-23/step-30", "train.steps=31"}));
}

// Told to stop in the step of the spike, a run goes back before it saves; what was passed over and
// how often is in that save.
TEST_F(Watchdog, ASignalInASpikeRollsBackBeforeItSaves) {
  expect_done(train("skipped", {"train.skip_steps=[26]"}));
  for (const char* every : {"1", "10"}) {
    SCOPED_TRACE(every);
    const std::string out = std::string("stopped-") + every;
    const std::vector<std::string> how = {"train.loss_watchdog.action=rollback",
                                          std::string("checkpoint.every=") + every};
    std::vector<std::string> first = how, slow = how, then = how;
    first.insert(first.end(), {"--max-steps", "23"});
    slow.insert(slow.end(), {"--resume", "faults.step_delay_ms=1000"});
    then.emplace_back("--resume");
    expect_done(train(out, first));
    Child child(command_of(PoisonedRun::arguments(out, slow)), place_.options());
    ASSERT_TRUE(wait_for_step(child, place_ / out, PoisonedRun::kStep - 1));
    usleep(400'000);  // the next step has begun and waits
    child.signal(SIGTERM);
    const ChildResult stopped = child.wait();
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_EQ(spikes(place_ / out).size(), 1u) << stopped.err;
    ASSERT_EQ(rollbacks(place_ / out).size(), 1u) << stopped.err;
    expect_done(train(out, then));
    EXPECT_EQ(rollbacks(place_ / out).size(), 1u);
    EXPECT_EQ(step_columns(place_ / out), step_columns(place_ / "skipped"));
    EXPECT_EQ(files_below(place_ / out / "step-30/state"),
              files_below(place_ / "skipped/step-30/state"));
  }
}

// Two spikes in a row before the action: both steps are passed over, and neither is saved.
TEST_F(Watchdog, RollbackWaitsForPatience) {
  const ChildResult result = train(
      "run", {"train.loss_watchdog={factor: 1.0001, window: 1, patience: 2, action: rollback, "
              "max_rollbacks: 99}",
              "optim.lr=0.3"});
  const std::vector<json> told = rollbacks(place_ / "run");
  ASSERT_FALSE(told.empty()) << result.err;
  for (const json& row : told) {
    EXPECT_EQ(row.at("passed_over")[1].get<int64_t>() - row.at("passed_over")[0].get<int64_t>(), 1);
    EXPECT_LT(row.at("to"), row.at("passed_over")[0]);
  }
  for (const json& row : event_rows(place_ / "run", "checkpoint")) {
    // The save that ends the run may be one in a spike.
    EXPECT_TRUE(row.at("step") == 30 || !row.at("loss_spike").get<bool>()) << row;
  }
}

TEST_F(Watchdog, RollbackNeedsASaveAndEndsAtItsLimit) {
  expect_error(
      train("none", {"train.loss_watchdog.action=rollback", "checkpoint.every=100", "--quiet"}), 5,
      {"step 26", "a save before the loss spike", "checkpoint.every"});
  // A rate at which the loss jumps again and again.
  const ChildResult result =
      train("wild",
            {"train.loss_watchdog={factor: 1.0001, window: 1, action: rollback, max_rollbacks: 2}",
             "optim.lr=0.3", "--quiet"});
  expect_error(result, 5, {"no loss spike after 2 rollbacks", "max_rollbacks"});
  EXPECT_EQ(rollbacks(place_ / "wild").size(), 2u);
}

// What the model learns makes it worse on other text, so the first evaluation is the best.
class Best : public testing::Test {
 protected:
  void SetUp() override {
    place_.write("other.jsonl", slurp(place_ / "poison.jsonl"));
    place_.write_run(
        "train: {steps: 12, global_batch_size: 2, eval_every: 3}\n"
        "checkpoint: {every: 100, keep: 1, hf: never, keep_best: eval_loss}");
  }
  [[nodiscard]] ChildResult train(const std::string& out,
                                  const std::vector<std::string>& more) const {
    return place_.run(PoisonedRun::arguments(out, more));
  }
  // Of the evaluations after step 0.
  [[nodiscard]] std::pair<int64_t, double> lowest(const std::string& run) const {
    std::pair<int64_t, double> best = {0, std::numeric_limits<double>::infinity()};
    for (const json& row : event_rows(place_ / run, "eval")) {
      const double loss = row.at("eval_loss").get<double>();
      if (row.at("step") > 0 && loss < best.second) best = {row.at("step"), loss};
    }
    return best;
  }
  Workplace place_;
  PoisonedRun rows_{place_};
};

TEST_F(Best, StaysBesideTheNewestAndIsShown) {
  const std::vector<std::string> other = {"data.eval={path: other.jsonl}"};
  const ChildResult result = train("run", other);
  expect_done(result);
  const auto [step, loss] = lowest("run");
  ASSERT_LT(step, 12) << "the example does not get worse";
  const std::string name = "step-" + std::to_string(step);
  EXPECT_EQ(checkpoints(place_ / "run"), (std::vector<std::string>{"step-12", name}));
  const json run = inspect(place_, "run");
  EXPECT_EQ(run.at("best"), json({{"step", step}, {"eval_loss", loss}}));
  for (const json& row : run.at("checkpoints"))
    EXPECT_EQ(row.contains("best"), row.at("name") == name) << row;
  EXPECT_NE(result.err.find("best  step " + std::to_string(step) + "  eval loss "),
            std::string::npos)
      << result.err;
  for (const json& row : event_rows(place_ / "run", "checkpoint"))
    EXPECT_EQ(row.at("best").get<bool>(), row.at("step") == step);
}

// A worse evaluation after a resume does not push it out.
TEST_F(Best, SurvivesResume) {
  const std::vector<std::string> other = {"data.eval={path: other.jsonl}"};
  std::vector<std::string> first = other, then = other;
  first.insert(first.end(), {"--max-steps", "7"});
  then.insert(then.end(), {"--resume", "latest"});
  expect_done(train("run", first));
  expect_done(train("run", then));
  const auto [step, loss] = lowest("run");
  ASSERT_LT(step, 7);
  EXPECT_EQ(checkpoints(place_ / "run"),
            (std::vector<std::string>{"step-12", "step-" + std::to_string(step)}));
  EXPECT_EQ(inspect(place_, "run/step-12").at("best"), json({{"step", step}, {"eval_loss", loss}}));
}

// Another run directory has a best of its own.
TEST_F(Best, OfAnotherRunDirectoryIsForgotten) {
  const std::vector<std::string> other = {"data.eval={path: other.jsonl}"};
  std::vector<std::string> then = other;
  then.insert(then.end(), {"--resume", "run/step-12", "train.steps=15"});
  expect_done(train("run", other));
  expect_done(train("next", then));
  EXPECT_EQ(inspect(place_, "next").at("best").at("step"), 15);
}

// On the text it learns every evaluation is the best so far: each is saved, and none piles up.
TEST_F(Best, ABetterOneTakesItsPlace) {
  expect_done(train("run", {"data.eval={path: rows.jsonl}", "train.eval_batches=2"}));
  EXPECT_EQ(lowest("run").first, 12);
  std::vector<int64_t> saved;
  for (const json& row : event_rows(place_ / "run", "checkpoint"))
    saved.push_back(row.at("step").get<int64_t>());
  EXPECT_EQ(saved, (std::vector<int64_t>{3, 6, 9, 12}));
  EXPECT_EQ(checkpoints(place_ / "run"), (std::vector<std::string>{"step-12"}));
}

TEST_F(Best, NeedsAnEvaluation) {
  expect_error(train("run", {"train.eval_every=null"}), 2, {"checkpoint.keep_best", "data.eval"});
}

TEST(SelfCheckFlag, ChecksAtTheFirstStepAndEverySoMany) {
  const Workplace place;
  place.write_run(
      "train: {steps: 6, global_batch_size: 2}\n"
      "checkpoint: {every: 2, hf: never, async: false}");
  const auto checked_steps = [&](const std::string& run) {
    std::vector<int64_t> steps;
    for (const json& row : event_rows(place / run, "self_check")) {
      steps.push_back(row.at("step").get<int64_t>());
      EXPECT_NEAR(row.at("recomputed").get<double>(), row.at("grad_norm").get<double>(), 1e-9);
      EXPECT_EQ(row.at("ranks"), 1);
    }
    return steps;
  };
  const ChildResult flag = place.run({"train", "run.yaml", "--out", "flag", "--self-check"});
  expect_done(flag);
  EXPECT_NE(flag.err.find("check step 1  |g| "), std::string::npos) << flag.err;
  EXPECT_EQ(checked_steps("flag"), (std::vector<int64_t>{1}));
  expect_done(place.run({"train", "run.yaml", "--out", "key", "train.self_check_every=4"}));
  EXPECT_EQ(checked_steps("key"), (std::vector<int64_t>{1, 4}));
  expect_done(place.run({"train", "run.yaml", "--out", "none"}));
  EXPECT_TRUE(checked_steps("none").empty());
  for (const char* other : {"flag", "key"}) {
    EXPECT_EQ(step_columns(place / other), step_columns(place / "none"));
    EXPECT_EQ(files_below(place / other / "step-6/state"),
              files_below(place / "none/step-6/state"));
  }
  // The first step of a part that goes on is one, too.
  expect_done(place.run(
      {"train", "run.yaml", "--out", "key", "--resume", "key/step-2", "train.self_check_every=4"}));
  EXPECT_EQ(checked_steps("key"), (std::vector<int64_t>{1, 4, 3, 4}));
}

TEST(SelfCheckFlag, FaultsThatAreNotThereAreRefused) {
  const Workplace place;
  place.write_run("train: {steps: 2, global_batch_size: 2}");
  const auto refused = [&](const std::string& fault, const std::vector<std::string>& words) {
    expect_error(place.run({"train", "run.yaml", "--out", "run", "--overwrite", "--quiet", fault}),
                 2, words);
  };
  refused("faults.flip_parameter_bit={rank: 1}", {"faults.flip_parameter_bit.rank", "below 1"});
  refused("faults.flip_gradient_bit={parameter: x}", {"faults.flip_gradient_bit.parameter", "x"});
  refused("faults.flip_parameter_bit={element: 1M}", {"element", "1000000"});
  refused("faults.flip_parameter_bit={bit: 32}", {"faults.flip_parameter_bit.bit", "31"});
}

// --resume without a value means latest, wherever it stands.
TEST(BareResume, MeansLatest) {
  const Workplace place;
  place.write_run(
      "train: {steps: 6, global_batch_size: 2}\n"
      "checkpoint: {every: 2, hf: never, async: false}");
  expect_done(place.run({"train", "run.yaml", "--out", "run", "--max-steps", "2"}));
  const std::vector<std::vector<std::string>> lines = {
      {"train", "run.yaml", "--out", "run", "--max-steps", "3", "--resume"},
      {"train", "run.yaml", "--out", "run", "--resume", "--max-steps", "4"},
      {"train", "run.yaml", "--out", "run", "--max-steps", "5", "--resume", "log.every=2"},
      {"train", "--resume", "run.yaml", "--out", "run"}};
  size_t steps = 2;
  for (const auto& words : lines) {
    const ChildResult result = place.run(words);
    expect_done(result);
    EXPECT_NE(result.err.find("resumed  run/step-" + std::to_string(steps)), std::string::npos)
        << result.err;
    EXPECT_EQ(step_columns(place / "run").size(), ++steps);
  }
  const ChildResult help = place.run({"train", "--help"});
  EXPECT_NE(help.out.find("--resume [DIR|latest]"), std::string::npos) << help.out;
}

}  // namespace
}  // namespace ink

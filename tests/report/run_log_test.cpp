// The whole report in a directory: rows, files, resume, errors.
#include "launch/report/run_log.h"

#include <cmath>

#include "tests/report/rows.h"
#include "tests/report/well_formed.h"

namespace ink {
namespace {

RunLog quiet_log(const TemporaryFolder& folder, const LogSection& options = {}) {
  return RunLog(folder.path(), options, true, false);
}

TEST(RunLog, EveryStepIsARowWithTheFieldsOfTheTable) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder);
  log.run(example_run());
  for (int64_t step = 1; step <= 4; ++step) log.step(example_step(step, 1.0 / 3.0));

  const auto rows = json_lines(folder / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 5U);
  EXPECT_EQ(rows[0].at("event"), "run");
  for (const char* field : {"time", "version", "command", "config_hash", "layout", "devices",
                            "parameters", "trainable", "resumed_from"})
    EXPECT_TRUE(rows[0].contains(field)) << field;
  EXPECT_TRUE(rows[0].at("resumed_from").is_null());

  const nlohmann::json& last = rows[4];
  EXPECT_EQ(last.at("event"), "step");
  for (const char* field :
       {"step",         "total_steps",    "epoch",        "percent",      "loss",
        "lr",           "grad_norm",      "loss_scale",   "skipped",      "skip_reason",
        "tokens",       "trained_tokens", "total_tokens", "tokens_per_s", "tokens_per_s_per_device",
        "mfu",          "step_time",      "data_time",    "comm_time",    "mem_peak",
        "mem_reserved", "elapsed",        "eta"})
    EXPECT_TRUE(last.contains(field)) << field;
  EXPECT_EQ(last.at("step"), 4);
  EXPECT_EQ(last.at("loss").get<double>(), 1.0 / 3.0);  // exactly
  EXPECT_EQ(last.at("trained_tokens"), 3900);
  EXPECT_EQ(last.at("tokens_per_s_per_device").get<double>(), 1338.7);
  EXPECT_DOUBLE_EQ(last.at("eta").get<double>(), 1.25 * 2996);
  EXPECT_TRUE(rows[1].at("eta").is_null());  // warming up
}

TEST(RunLog, WhatIsNotFiniteOrDoesNotApplyIsNull) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder);
  StepRow row = example_step(1, std::nan(""));
  row.grad_norm = INFINITY;
  row.skip_reason = "non-finite";
  row.mfu.reset();
  log.step(row);
  row = example_step(2);
  row.skip_reason = "skip_steps";
  log.step(row);
  const auto rows = json_lines(folder / "metrics.jsonl");
  for (const char* field : {"loss", "grad_norm", "mfu"})
    EXPECT_TRUE(rows[0].at(field).is_null()) << field;
  EXPECT_EQ(rows[0].at("skip_reason"), "non-finite");
  EXPECT_TRUE(rows[1].at("loss").is_null());
}

TEST(RunLog, TheOtherRows) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder);
  log.eval({.step = 5,
            .sets = {{.name = "a", .loss = 1.0, .accuracy = 0.5, .tokens = 100},
                     {.name = "b", .loss = 2.0, .accuracy = 0.25, .tokens = 300}},
            .seconds = 2});
  log.sample({.step = 5, .tokens = 3, .prompt = "The \xff", .text = "<end>", .stop_reason = "eos"});
  log.sample({.step = 5, .tokens = 2, .prompt = "A", .text = "B", .stop_reason = "length"});
  log.checkpoint({.step = 5, .path = "step-5", .bytes = 1000, .seconds = 0.5, .best = true});
  log.warning("nonfinite", "careful");
  log.end({.step = 5, .final_loss = 1.5, .elapsed = 60, .total_tokens = 20000, .reason = "done"});

  const auto rows = json_lines(folder / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 6U);
  EXPECT_EQ(rows[0].at("event"), "eval");
  EXPECT_DOUBLE_EQ(rows[0].at("eval_loss").get<double>(), 1.75);
  EXPECT_DOUBLE_EQ(rows[0].at("perplexity").get<double>(), std::exp(1.75));
  EXPECT_EQ(rows[0].at("tokens"), 400);
  EXPECT_DOUBLE_EQ(rows[0].at("datasets").at("b").at("accuracy").get<double>(), 0.25);
  EXPECT_EQ(rows[1].at("event"), "sample");
  EXPECT_EQ(rows[1].at("prompt"), "The \xef\xbf\xbd");
  EXPECT_EQ(rows[3].at("event"), "checkpoint");
  EXPECT_EQ(rows[3].at("bytes"), 1000);
  EXPECT_EQ(rows[3].at("best"), true);
  EXPECT_EQ(rows[3].at("loss_spike"), false);
  EXPECT_EQ(rows[4].at("code"), "nonfinite");
  EXPECT_EQ(rows[5].at("reason"), "done");
  EXPECT_EQ(rows[5].at("total_tokens"), 20000);

  const std::string samples = file_text(folder / "samples/step_5.txt");
  EXPECT_NE(samples.find("<end>\n[eos, 3 tokens]"), std::string::npos) << samples;
  EXPECT_NE(samples.find("AB\n[length, 2 tokens]"), std::string::npos) << samples;
}

TEST(RunLog, GuardsHaveRows) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder);
  log.spike({.step = 7, .loss = 8, .reference = 2, .length = 1, .packs = {3, 4}, .action = "skip"});
  log.self_check(
      {.step = 7, .grad_norm = 0.5, .recomputed = 0.5, .ranks = 2, .compared = 9, .seconds = 0.25});
  log.self_check({.step = 8});
  const auto rows = json_lines(folder / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].at("event"), "warning");
  EXPECT_EQ(rows[0].at("code"), "loss_spike");
  EXPECT_EQ(rows[0].at("packs"), nlohmann::json({3, 4}));
  EXPECT_EQ(rows[0].at("reference"), 2);
  EXPECT_EQ(rows[1].at("event"), "self_check");
  EXPECT_EQ(rows[1].at("compared"), 9);
  EXPECT_TRUE(rows[2].at("grad_norm").is_null());
  const std::string text = file_text(folder / "log.txt");
  for (const char* line : {"warning[loss_spike]: step 7: the loss 8.0000 is 4.0 times 2.0000, the "
                           "median of the steps before it; packs 3 4; no update was made\n",
                           "check step 7  |g| 0.5, recomputed 0.5  9 hashes equal on 2 ranks  "
                           "0.250 s\n",
                           "check step 8  one rank, no replicas  0.000 s\n"})
    EXPECT_NE(text.find(line), std::string::npos) << text;
}

TEST(RunLog, LinesComeInTheirRhythmAndSkippedStepsAlways) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder, {.every = 10});
  for (int64_t step = 1; step <= 25; ++step) {
    StepRow row = example_step(step);
    if (step == 13) row.skip_reason = "non-finite";
    log.step(row);
  }
  log.note("a note");
  const auto lines = file_lines(folder / "log.txt");
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_TRUE(lines[0].starts_with("step    10/3000")) << lines[0];
  EXPECT_TRUE(lines[1].starts_with("step    13/3000")) << lines[1];
  EXPECT_TRUE(lines[1].ends_with("no update: non-finite")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("step    20/3000")) << lines[2];
  EXPECT_EQ(lines[3], "a note");
  EXPECT_EQ(json_lines(folder / "metrics.jsonl").size(), 25U);
}

TEST(RunLog, AResumedRunGoesOnInTheSameFilesAndLeavesLaterRowsOut) {
  const TemporaryFolder folder;
  {
    RunLog log = quiet_log(folder);
    log.run(example_run());
    for (int64_t step = 1; step <= 30; ++step) log.step(example_step(step, 4.0));
    log.eval({.step = 10, .sets = {{.name = "v", .loss = 3.5, .tokens = 1}}});
    log.eval({.step = 30, .sets = {{.name = "v", .loss = 3.0, .tokens = 1}}});
  }
  {  // the row that a crash left half written
    std::ofstream(folder / "metrics.jsonl", std::ios::app) << R"({"event":"step","st)";
  }
  RunLog log = quiet_log(folder);
  log.resume_at(20);
  RunRow run = example_run();
  run.resumed_from = "step-20";
  log.run(run);
  log.step(example_step(21, 5.0));
  log.checkpoint({.step = 21, .path = "step-21"});

  const auto rows = json_lines(folder / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 1U + 30 + 2 + 3);
  EXPECT_EQ(rows[33].at("event"), "run");
  EXPECT_EQ(rows[33].at("resumed_from"), "step-20");

  const std::string svg = file_text(folder / "loss.svg");
  expect_well_formed(svg);
  const size_t at = svg.find("<polyline class=\"raw\" points=\"");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(count_of(svg.substr(at, svg.find("/>", at) - at), ","), 21U);
  EXPECT_NE(svg.find("<title>step 10: 3.5000"), std::string::npos);
  EXPECT_EQ(svg.find("<title>step 30"), std::string::npos);
}

TEST(RunLog, ThePageHoldsEverythingByItself) {
  const TemporaryFolder folder;
  folder.write("run.yaml", "model:\n  name: \"<tiny>\"\n");
  RunLog log = quiet_log(folder);
  log.run(example_run());
  log.note("memory estimate per rank\n  weights 1.0 MiB");
  for (int64_t step = 1; step <= 3; ++step) log.step(example_step(step));
  log.eval({.step = 3, .sets = {{.name = "held-out", .loss = 2.0, .accuracy = 0.5, .tokens = 9}}});
  log.sample({.step = 3, .tokens = 3, .prompt = "a", .text = "<script>", .stop_reason = "eos"});
  log.end({.step = 3, .reason = "done"});
  const std::string page = file_text(folder / "report.html");
  expect_well_formed(page);
  for (const char* part : {"<svg ", "held-out", "&lt;script&gt;", "&lt;tiny&gt;", "weights 1.0 MiB",
                           "inkstone train run.yaml", "<td>done</td>"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  for (const char* part : {"<script", "src=", "href=", "<link"})
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  EXPECT_TRUE(std::filesystem::exists(folder / "loss.svg"));
}

TEST(RunLog, SwitchedOffPartsWriteNothing) {
  const TemporaryFolder folder;
  RunLog log = quiet_log(folder, {.tensorboard = false, .plot = false});
  log.step(example_step(1));
  log.end({.step = 1, .reason = "done"});
  for (const char* name : {"tb", "loss.svg", "report.html"})
    EXPECT_FALSE(std::filesystem::exists(folder / name)) << name;
}

TEST(RunLog, ADirectoryThatCannotBeWrittenIsError4) {
  const TemporaryFolder folder;
  const auto file = folder.write("file", "x");
  expect_error(ExitCode::kIo, {"log.txt", "cannot open"}, [&] { RunLog(file, {}, true, false); });
  folder.write("tb", "a file where the event files belong");
  expect_error(ExitCode::kIo, {"tb"}, [&] { quiet_log(folder); });
}

TEST(RunLog, AForeignLineInMetricsIsNamedOnResume) {
  const TemporaryFolder folder;
  folder.write("metrics.jsonl", "{\"event\":\"warning\"}\nnot json\n");
  RunLog log = quiet_log(folder);
  expect_error(ExitCode::kBadInput, {"metrics.jsonl:2"}, [&] { log.resume_at(1); });
}

}  // namespace
}  // namespace ink

// train.compat through the program: InternEvo's log line, what a run says and records of its
// switches, and resuming.

#include <regex>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

using nlohmann::json;

constexpr const char* kTrain =
    "train: {steps: 6, global_batch_size: 2}\n"
    "checkpoint: {every: 2, keep: 9, hf: never, async: false}\n";

ChildResult train(const Workplace& place, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"train", "run.yaml"});
  return place.run(arguments);
}

std::string text_of(const Workplace& place, const std::string& file) {
  std::map<std::string, std::string> files = files_below((place / file).parent_path());
  return files[(place / file).filename().string()];
}

std::vector<std::string> reference_lines(const Workplace& place, const std::string& run) {
  std::vector<std::string> lines;
  std::istringstream log(text_of(place, run + "/log.txt"));
  for (std::string line; std::getline(log, line);)
    if (line.starts_with("tflops=")) lines.push_back(line);
  return lines;
}

// The keys of `key=value ` pairs; a key may have blanks, a value is one word or a dictionary.
std::vector<std::string> keys_of(const std::string& line) {
  static const std::regex pair(R"(([a-zA-Z_/0-9]+(?: \([a-z/]+\))?)=(\{[^}]*\}|[^ ]+) )");
  std::vector<std::string> keys;
  size_t covered = 0;
  for (auto it = std::sregex_iterator(line.begin(), line.end(), pair); it != std::sregex_iterator();
       ++it) {
    keys.push_back((*it)[1]);
    covered += static_cast<size_t>(it->length());
  }
  EXPECT_EQ(covered, line.size()) << line;
  return keys;
}

std::string value_of(const std::string& line, const std::string& key) {
  const size_t at = (" " + line).find(" " + key + "=");
  if (at == std::string::npos) return {};
  const size_t begin = at + key.size() + 1;
  return line.substr(begin, line.find(' ', begin) - begin);
}

TEST(Compat, TheLogLineHasInternEvosFieldsInItsOrder) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(place, {"--out", "run", "train.compat=internevo"}));
  const std::vector<std::string> lines = reference_lines(place, "run");
  ASSERT_EQ(lines.size(), 6u) << "one line for every step, whatever log.every says";
  const std::vector<std::string> keys = {"tflops",
                                         "step",
                                         "loss",
                                         "real_tgs",
                                         "tgs (tokens/gpu/second)",
                                         "tgs/last_tgs_1",
                                         "tgs/tgs_all",
                                         "tgs/tgs_avg",
                                         "tgs/tgs_SMA",
                                         "tgs/last_tgs_10",
                                         "tgs/last_tgs_50",
                                         "lr",
                                         "loss_scale",
                                         "grad_norm",
                                         "micro_num",
                                         "num_consumed_tokens",
                                         "inf_nan_skip_batches",
                                         "num_samples_in_batch",
                                         "largest_length",
                                         "largest_batch",
                                         "smallest_batch",
                                         "adam_beta2",
                                         "fwd_bwd_time",
                                         "bwd_time",
                                         "acc",
                                         "perplexity",
                                         "acc/synthetic",
                                         "tokens/synthetic",
                                         "loss_from_metric",
                                         "loss/synthetic"};
  const std::vector<json> rows = step_rows(place / "run");
  ASSERT_EQ(rows.size(), 6u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    EXPECT_EQ(keys_of(line), keys);
    EXPECT_EQ(value_of(line, "step"), std::to_string(i));
    EXPECT_EQ(std::stod(value_of(line, "loss")), rows[i]["loss"].get<double>());
    EXPECT_EQ(std::stod(value_of(line, "lr")), rows[i]["lr"].get<double>());
    EXPECT_EQ(std::stoll(value_of(line, "num_consumed_tokens")),
              rows[i]["total_tokens"].get<int64_t>());  // full packs: no padding
    EXPECT_EQ(std::stoll(value_of(line, "tokens/synthetic")),
              rows[i]["trained_tokens"].get<int64_t>());
    // Of full packs with as many trained tokens, the two means agree to what is printed.
    EXPECT_NEAR(std::stod(value_of(line, "loss_from_metric")), rows[i]["loss"].get<double>(), 2e-3);
    EXPECT_EQ(value_of(line, "micro_num"), "2");
    EXPECT_NE(line.find("grad_norm={'0_default': "), std::string::npos);
    EXPECT_NE(line.find(", '1_fp32': 0.0} "), std::string::npos);
    EXPECT_NEAR(rows[i]["grad_norms"]["0_default"].get<double>(),
                rows[i]["grad_norm"].get<double>(), 1e-9);
  }
}

TEST(Compat, WithoutTheSwitchTheLineIsInkstones) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(place, {"--out", "run", "train.compat.decay_all=true"}));
  EXPECT_TRUE(reference_lines(place, "run").empty());
  EXPECT_NE(text_of(place, "run/log.txt").find("compat: rules of InternEvo for decay_all\n"),
            std::string::npos);
  EXPECT_FALSE(step_rows(place / "run")[0].contains("grad_norms"));
}

TEST(Compat, TheSwitchesAreSaidAndRecorded) {
  const Workplace place;
  place.write_run(kTrain);
  const ChildResult dry = train(place, {"--dry-run", "train.compat=internevo"});
  expect_done(dry);
  const std::string all =
      "loss_mean, clip_per_group, decay_all, bf16_loss_scale, scaler, clip_zero, init, sampler, "
      "log_line\n";
  EXPECT_NE(dry.out.find("compat   " + all), std::string::npos) << dry.out;
  expect_done(train(place, {"--out", "run", "--max-steps", "2", "train.compat=internevo"}));
  EXPECT_NE(text_of(place, "run/log.txt").find("compat: rules of InternEvo for " + all),
            std::string::npos);
  EXPECT_NE(text_of(place, "run/run.yaml").find("  compat:\n    loss_mean: true\n"),
            std::string::npos);
  expect_error(train(place, {"--out", "other", "train.compat.moe=true"}), 2,
               {"train.compat.moe is not built yet"});
}

TEST(Compat, AResumedRunGoesOnBitByBit) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(place, {"--out", "whole", "train.compat=internevo"}));
  expect_done(train(place, {"--out", "cut", "--max-steps", "2", "train.compat=internevo"}));
  expect_done(train(place, {"--out", "cut", "--resume", "train.compat=internevo"}));
  EXPECT_EQ(step_columns(place / "cut"), step_columns(place / "whole"));
  EXPECT_EQ(files_below(place / "cut/step-6/state"), files_below(place / "whole/step-6/state"));
  EXPECT_EQ(value_of(reference_lines(place, "cut").back(), "num_consumed_tokens"),
            value_of(reference_lines(place, "whole").back(), "num_consumed_tokens"));
  EXPECT_TRUE(event_rows(place / "cut", "warning").empty());
}

TEST(Compat, AResumeWithOtherSwitchesWarnsAndWithTheOtherOrderOfPacksIsRefused) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(place, {"--out", "run", "--max-steps", "2", "train.compat.decay_all=true"}));
  expect_error(train(place, {"--out", "run", "--resume", "--quiet", "train.compat=internevo"}), 3,
               {"data state", "expected train.compat.sampler false as in the save, got true"});
  expect_done(train(
      place, {"--out", "run", "--resume", "--max-steps", "4", "train.compat.loss_mean=true"}));
  const std::vector<json> warnings = event_rows(place / "run", "warning");
  ASSERT_EQ(warnings.size(), 2u);  // the refused one had a warning, too
  EXPECT_EQ(warnings[1]["text"],
            "train.compat: the save was made with decay_all, this run has loss_mean: the run goes "
            "on by other rules");
}

// 65 documents of 40 tokens are 81 full packs of 32 and a short one: 40 batches of two.
TEST(Compat, AnEpochOfTheSamplerIsWholeBatches) {
  const Workplace place;
  place.write_run(kTrain);
  const std::vector<std::string> data = {"--dry-run", "data.train.0.synthetic.documents=65"};
  EXPECT_NE(train(place, data).out.find("82 packs, 41 steps per epoch"), std::string::npos);
  std::vector<std::string> numpy = data;
  numpy.emplace_back("train.compat.sampler=true");
  EXPECT_NE(train(place, numpy).out.find("82 packs, 40 steps per epoch"), std::string::npos);
}

// Without a norm to compare the self-check still runs.
TEST(Compat, ClipZeroGoesWithTheSelfCheck) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(
      place, {"--out", "run", "--self-check", "train.compat.clip_zero=true", "optim.clip_norm=0"}));
  ASSERT_FALSE(event_rows(place / "run", "self_check").empty());
  EXPECT_TRUE(event_rows(place / "run", "self_check")[0]["grad_norm"].is_null());
  EXPECT_EQ(step_rows(place / "run")[0]["grad_norm"], 0);
}

#ifdef INKSTONE_MPI
// One micro-batch on each of two ranks, or two on one: the same means, the same packs in their
// order, and sums over ranks in the line.
TEST(Compat, TwoRanksMakeTheStepsOfOne) {
  const Workplace place;
  place.write_run(kTrain);
  expect_done(train(place, {"--out", "one", "train.compat=internevo"}));
  expect_done(place.run_ranks(2, {"train", "run.yaml", "--out", "two", "train.compat=internevo"}));
  const std::vector<json> one = step_rows(place / "one"), two = step_rows(place / "two");
  const std::vector<std::string> lines = reference_lines(place, "two");
  ASSERT_EQ(two.size(), one.size());
  ASSERT_EQ(lines.size(), one.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(two[i]["loss"].get<double>(), one[i]["loss"].get<double>(), 1e-5);
    EXPECT_EQ(two[i]["trained_tokens"], one[i]["trained_tokens"]);
    EXPECT_EQ(std::stoll(value_of(lines[i], "tokens/synthetic")),
              two[i]["trained_tokens"].get<int64_t>());
    EXPECT_EQ(value_of(lines[i], "micro_num"), "1");
  }
}
#endif

// Ten documents of token ids; RandomState(1024) puts document 2 first, then 3, 7, 0 and so on.
TEST(Compat, DocumentsLieInNumpysOrder) {
  const Workplace place;
  std::string rows;
  for (int d = 0; d < 10; ++d)
    rows += "{\"tokens\": [" + std::to_string(10 + d) + ", " + std::to_string(10 + d) + "]}\n";
  place.write("rows.jsonl", rows);
  const auto prepare = [&](const std::string& out, const std::string& order) {
    return place.run({"data", "prepare", "--in", "rows.jsonl", "--out", out, "--vocab-size", "64",
                      "--max-length", "4", "--seed", "1024", "--order", order});
  };
  expect_done(prepare("numpy.h5", "numpy"));
  expect_done(prepare("own.h5", "permuted"));
  place.write_run(kTrain);
  const std::vector<std::string> on_store = {"data.train=[{path: numpy.h5}]", "data.max_length=4",
                                             "train.compat.sampler=true"};
  std::vector<std::string> arguments = {"--out", "run"};
  arguments.insert(arguments.end(), on_store.begin(), on_store.end());
  expect_done(train(place, arguments));
  arguments = {"--out", "refused", "data.train=[{path: own.h5}]", "data.max_length=4",
               "train.compat.sampler=true"};
  expect_error(train(place, arguments), 2,
               {"expected documents in the order numpy", "got permuted", "--order numpy"});
  expect_error(prepare("third.h5", "numbered"), 2, {"--order", "expected one of permuted, numpy"});
}

}  // namespace
}  // namespace ink

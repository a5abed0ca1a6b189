// data.packing: false as a user meets it: documents of different lengths, each a sample.

#include <set>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

using nlohmann::json;

constexpr int kDocuments = 30;

// Of 3 to 79 tokens; longer than the 32 of data.max_length in two cases of three.
int length_of(int document) { return 3 + document * 29 % 77; }

class Unpacked : public testing::Test {
 protected:
  void SetUp() override {
    std::string rows;
    for (int d = 0; d < kDocuments; ++d) {
      json ids = json::array();
      for (int t = 0; t < length_of(d); ++t) ids.push_back((d * 11 + t * 5) % 90 + 1);
      rows += json{{"input_ids", ids}}.dump() + "\n";
    }
    place_.write("rows.jsonl", rows);
    place_.write_run(
        "train: {epochs: 2, global_batch_size: 4}\n"
        "checkpoint: {every: 100, hf: never, async: false}");
  }

  [[nodiscard]] static std::vector<std::string> arguments(
      const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {
        "train", "run.yaml", "--out", out, "data.train=[{path: rows.jsonl}]", "data.packing=false"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  [[nodiscard]] ChildResult train(const std::string& out,
                                  const std::vector<std::string>& more = {}) const {
    return place_.run(arguments(out, more));
  }

  Workplace place_;
};

struct Sizes {
  int64_t samples = 0, tokens = 0;
};

Sizes sizes() {
  Sizes all;
  for (int d = 0; d < kDocuments; ++d) {
    all.samples += (length_of(d) + 31) / 32;
    all.tokens += length_of(d);
  }
  return all;
}

// Two epochs: every token twice, every target twice, and as many steps as samples make.
TEST_F(Unpacked, EverySampleOncePerEpoch) {
  const ChildResult result = train("run");
  expect_done(result);
  EXPECT_NE(result.err.find("samples of up to 32 tokens"), std::string::npos) << result.err;
  const Sizes all = sizes();
  const std::vector<json> rows = step_rows(place_ / "run");
  ASSERT_EQ(static_cast<int64_t>(rows.size()), (2 * all.samples + 3) / 4);
  int64_t tokens = 0, trained = 0;
  std::set<int64_t> different;
  for (const json& row : rows) {
    tokens += row.at("tokens").get<int64_t>();
    trained += row.at("trained_tokens").get<int64_t>();
    different.insert(row.at("tokens").get<int64_t>());
    EXPECT_EQ(row.at("fill_rate"), 1.0) << "the processor computes no padding";
    EXPECT_NEAR(row.at("tokens_per_s").get<double>(),
                row.at("tokens").get<double>() / row.at("step_time").get<double>(),
                1e-6 * row.at("tokens_per_s").get<double>());
  }
  EXPECT_EQ(tokens, 2 * all.tokens);
  EXPECT_EQ(trained, 2 * (all.tokens - kDocuments)) << "all but the first of each document";
  EXPECT_GT(different.size(), rows.size() / 2);
}

TEST_F(Unpacked, ResumeIsExactAndTheOtherSettingIsRefused) {
  expect_done(train("whole"));
  expect_done(train("part", {"--max-steps", "7"}));
  expect_done(train("part", {"--resume", "latest"}));
  const StepColumns whole = step_columns(place_ / "whole");
  EXPECT_EQ(step_columns(place_ / "part"), whole);
  const std::string last = "step-" + std::to_string(whole.rbegin()->first);
  EXPECT_EQ(files_below(place_ / "part" / last / "state"),
            files_below(place_ / "whole" / last / "state"));
  expect_error(train("whole", {"--resume", "latest", "--quiet", "data.packing=true"}), 3,
               {"source 0", "samples of 32"});
  expect_error(train("whole", {"--resume", "latest", "--quiet", "data.max_length=31"}), 3,
               {"samples of 31"});
}

// The sum over all targets does not know how they were grouped.
TEST_F(Unpacked, MicroBatchesDoNotMatter) {
  expect_done(train("one"));
  expect_done(train("four", {"train.micro_batch_size=4"}));
  const StepColumns one = step_columns(place_ / "one"), four = step_columns(place_ / "four");
  ASSERT_EQ(one.size(), four.size());
  for (const auto& [step, row] : one) {
    EXPECT_EQ(row["trained_tokens"], four.at(step)["trained_tokens"]);
    EXPECT_NEAR(row["loss"].get<double>(), four.at(step)["loss"].get<double>(),
                1e-5 * row["loss"].get<double>())
        << step;
  }
}

TEST_F(Unpacked, HeldOutDocumentsRampAndSkippedSteps) {
  const ChildResult result =
      train("run", {"data.eval={fraction: 0.2}", "train.eval_every=3", "train.epochs=null",
                    "train.steps=8", "train.skip_steps=[2]",
                    "train.batch_ramp={start: 1, increment: 1, every: 2}"});
  expect_done(result);
  const std::vector<json> evals = event_rows(place_ / "run", "eval"),
                          rows = step_rows(place_ / "run");
  ASSERT_EQ(evals.size(), 4u);
  EXPECT_EQ(evals[0].at("datasets").at("held_out").at("tokens"),
            evals[3].at("datasets").at("held_out").at("tokens"));
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[1].at("skip_reason"), "skip_steps");
  EXPECT_LE(rows[0].at("tokens"), 32);
  // The loss of the same held-out samples in one micro-batch.
  expect_done(train("wide", {"data.eval={fraction: 0.2}", "train.epochs=null", "train.steps=2",
                             "train.micro_batch_size=4"}));
  const json wide = event_rows(place_ / "wide", "eval").at(0);
  EXPECT_NEAR(wide.at("eval_loss").get<double>(), evals[0].at("eval_loss").get<double>(), 1e-5);
}

TEST_F(Unpacked, DryRunAndInspect) {
  const Sizes all = sizes();
  const ChildResult plan = train("run", {"--dry-run"});
  expect_done(plan);
  for (const std::string& words : {std::to_string(all.samples) + " samples", std::string("about "),
                                   std::to_string((2 * all.samples + 3) / 4) + " of "})
    EXPECT_NE(plan.out.find(words), std::string::npos) << words << "\n" << plan.out;
  expect_done(place_.run({"data", "prepare", "--in", "rows.jsonl", "--out", "rows.h5",
                          "--vocab-size", "96", "--max-length", "64"}));
  // Of a store for packs of 64, samples of 32: the store's length is no matter.
  int64_t tokens = 0;
  const std::string last = std::to_string(all.samples - 1);
  const auto inspect = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"data", "inspect", "rows.h5"};
    words.insert(words.end(), more.begin(), more.end());
    return place_.run(words);
  };
  const ChildResult shown =
      inspect({"--unpacked", "--max-length", "32", "--n", std::to_string(all.samples)});
  expect_done(shown);
  for (size_t at = 0; (at = shown.out.find("sample ", at)) != std::string::npos; ++at) {
    const size_t comma = shown.out.find(", ", at);
    const int64_t length = std::stoll(shown.out.substr(comma + 2));
    EXPECT_LE(length, 32);
    tokens += length;
  }
  EXPECT_EQ(tokens, all.tokens);
  EXPECT_NE(shown.out.find("sample " + last + " of train"), std::string::npos);
  expect_error(inspect({"--unpacked", "--max-length", "32", "--row", std::to_string(all.samples)}),
               2, {"--row", "the samples of train"});
  expect_error(inspect({"--unpacked", "--packed"}), 2, {"--unpacked", "both"});
  expect_error(inspect({"--max-length", "32"}), 2, {"--max-length", "--unpacked"});
}

TEST_F(Unpacked, TokensOfABatchAreRefused) {
  expect_error(train("run", {"train.global_batch_size=null", "train.global_batch_tokens=128"}), 2,
               {"train.global_batch_tokens", "train.global_batch_size", "data.packing: false"});
}

#ifdef INKSTONE_MPI
// Two ranks, whose micro-batches have other lengths, and a last step in which one has no sample.
TEST_F(Unpacked, TwoRanksEqualOneProcess) {
  expect_done(train("one"));
  const ChildResult two = place_.run_ranks(2, arguments("two"));
  EXPECT_EQ(two.code, 0) << two.err;
  const StepColumns a = step_columns(place_ / "one"), b = step_columns(place_ / "two");
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [step, row] : a) {
    EXPECT_EQ(row["tokens"], b.at(step)["tokens"]);
    for (const char* name : {"loss", "grad_norm"})
      EXPECT_NEAR(row[name].get<double>(), b.at(step)[name].get<double>(),
                  1e-5 * row[name].get<double>())
          << step << " " << name;
  }
}
#endif

}  // namespace
}  // namespace ink

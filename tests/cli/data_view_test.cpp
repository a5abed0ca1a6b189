// What `data inspect` and `data stats` say of a run file is what its training does; of files and
// stores, what such a run would read.

#include <signal.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kRows = 150;
constexpr int kEmpty = 7, kBad = 20;  // rows of text.jsonl

std::string row_text(int row) {
  std::string text = "row " + std::to_string(row) + " says:";
  for (int word = 0; word < row % 23; ++word) text += " the cat sits here";
  return text;
}

std::string text_rows() {
  std::string rows;
  for (int row = 0; row < kRows; ++row) {
    if (row == kBad) {
      rows += "{\"tekst\": \"x\"}\n";
    } else {
      rows += json{{"text", row == kEmpty ? "" : row_text(row)}}.dump() + "\n";
    }
  }
  return rows;
}

class DataView : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(place_ / "tmp");
    place_.write("text.jsonl", text_rows());
    std::string rows;
    for (int row = 0; row < 40; ++row) {
      json ids = json::array();
      for (int t = 0; t < 3 + row * 29 % 77; ++t) ids.push_back((row * 11 + t * 5) % 90 + 1);
      rows += json{{"input_ids", ids}}.dump() + "\n";
    }
    place_.write("rows.jsonl", rows);
    expect_done(place_.run({"data", "tokenizer", "--in", "text.jsonl", "--format", "lines", "--out",
                            "tok", "--vocab-size", "300"}));
    place_.write_run(
        "train: {epochs: 1, global_batch_size: 4}\n"
        "checkpoint: {every: 100, hf: never, async: false, dir: run}");
  }

  // Overrides that have the run read the text, malformed rows left out.
  [[nodiscard]] static std::vector<std::string> text(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"model.vocab_size=300", "model.tokenizer=tok",
                                      "data.train=[{path: text.jsonl}]", "data.on_bad_row=skip"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  [[nodiscard]] ChildResult call(std::vector<std::string> words,
                                 const std::vector<std::string>& more) const {
    words.insert(words.end(), more.begin(), more.end());
    ChildOptions options = place_.options();
    options.variables["TMPDIR"] = (place_ / "tmp").string();
    return place_.run(words, options);
  }
  [[nodiscard]] json stats(const std::vector<std::string>& overrides) const {
    const ChildResult result = call({"data", "stats", "run.yaml", "--json"}, overrides);
    expect_done(result);
    return result.code == 0 ? json::parse(result.out) : json();
  }
  [[nodiscard]] std::string inspect(const std::vector<std::string>& words) const {
    const ChildResult result = call({"data", "inspect"}, words);
    expect_done(result);
    return result.out;
  }

  // Trains one epoch and holds what was counted to what was logged and consumed.
  void expect_stats_are_the_run(const std::vector<std::string>& overrides, const char* unit) {
    const json counted = stats(overrides);
    fs::remove_all(place_ / "run");
    expect_done(call({"train", "run.yaml"}, overrides));
    const json start = event_rows(place_ / "run", "run").at(0);
    for (const char* name : {"steps_per_epoch", "total_steps", "tokens_per_step"})
      EXPECT_EQ(counted.at("run").at(name), start.at(name)) << name;
    int64_t tokens = 0, trained = 0, packs = 0, seen_tokens = 0, seen_trained = 0, evaluated = 0;
    for (const json& source : counted.at("sources")) {
      if (source.at("name").get<std::string>().ends_with("(eval)")) {
        evaluated += source.at("trained").get<int64_t>();
        continue;
      }
      tokens += source.at("tokens").get<int64_t>();
      trained += source.at("trained").get<int64_t>();
      packs += source.at(unit).get<int64_t>();
      EXPECT_NEAR(source.at("fill_rate").get<double>(),
                  source.at("tokens").get<double>() / (32 * source.at(unit).get<double>()), 1e-12);
    }
    const std::vector<json> steps = step_rows(place_ / "run");
    for (const json& row : steps) {
      seen_tokens += row.at("tokens").get<int64_t>();
      seen_trained += row.at("trained_tokens").get<int64_t>();
    }
    EXPECT_EQ(static_cast<int64_t>(steps.size()), counted.at("run").at("total_steps"));
    EXPECT_EQ(static_cast<int64_t>(steps.size()), (packs + 3) / 4);
    EXPECT_EQ(seen_tokens, tokens);
    EXPECT_EQ(seen_trained, trained);
    EXPECT_EQ(steps.back().at("epoch"), counted.at("run").at("epochs"));
    int64_t evaluated_by_run = 0;
    for (const json& row : event_rows(place_ / "run", "eval"))
      evaluated_by_run = row.at("tokens").get<int64_t>();
    EXPECT_EQ(evaluated_by_run, evaluated);
  }

  Workplace place_;
};

TEST_F(DataView, StatsAreTheNumbersOfTheRun) {
  expect_stats_are_the_run(text(), "packs");
  expect_stats_are_the_run(text({"data.packing=false"}), "samples");
  expect_stats_are_the_run(
      text({"data.train=[{path: text.jsonl}, {path: rows.jsonl}]", "data.eval={fraction: 0.1}",
            "train.batch_ramp={start: 4, increment: 4, every: 2}"}),
      "packs");
}

TEST_F(DataView, StatsKnowStepsRanksAndWhatAnOrderLeavesOut) {
  // Of a batch that is given per rank.
  const std::vector<std::string> each = {"train.global_batch_size=null", "train.accumulation=2"};
  for (const auto& [ranks, steps] : {std::pair{"1", 40}, {"4", 10}}) {
    std::vector<std::string> words = each;
    words.insert(words.end(), {"--ranks", ranks});
    const json run = stats(words).at("run");
    EXPECT_EQ(run.at("steps_per_epoch"), steps);
    EXPECT_EQ(run.at("total_steps"), steps);
  }
  // 82 packs, of which the last is short.
  const json numpy = stats({"data.train=[{synthetic: {documents: 65, length: 40}}]",
                            "train.compat.sampler=true", "train.epochs=null", "train.steps=30"});
  EXPECT_EQ(numpy.at("sources").at(0).at("packs"), 82);
  EXPECT_EQ(numpy.at("run").at("steps_per_epoch"), 20);
  EXPECT_EQ(numpy.at("run").at("left_out_per_epoch"), 2);
  EXPECT_EQ(numpy.at("run").at("epochs"), 1.5);
  const ChildResult table = place_.run({"data", "stats", "run.yaml", "--hist"});
  expect_done(table);
  for (const char* words : {"epoch  20 steps of 4 packs, 128 tokens each",
                            "run    20 steps, 1 epochs", "32..63", "synthetic (train)"})
    EXPECT_NE(table.out.find(words), std::string::npos) << words << "\n" << table.out;
}

// However a store comes about, it says what it was made without.
TEST_F(DataView, WhatIsLeftOutIsCountedByReason) {
  const json want = {{"empty_documents", 1}, {"bad_rows", 1}};
  EXPECT_EQ(stats(text()).at("sources").at(0).at("dropped"), want);
  // Held out of the same files: told once.
  const json held = stats(text({"data.eval={fraction: 0.1}"})).at("sources");
  EXPECT_EQ(held.at(0).at("dropped"), want);
  EXPECT_EQ(held.at(1).at("dropped"), json({{"empty_documents", 0}, {"bad_rows", 0}}));
  expect_done(place_.run({"data", "prepare", "--in", "text.jsonl", "--out", "made.h5",
                          "--tokenizer", "tok", "--max-length", "32", "--skip-bad-rows"}));
  const json store = json::parse(place_.run({"data", "stats", "made.h5", "--json"}).out);
  EXPECT_EQ(store.at("sources").at(0).at("dropped"), want);
  EXPECT_FALSE(store.contains("run"));
  const ChildResult files = place_.run({"data", "stats", "text.jsonl", "--tokenizer", "tok",
                                        "--max-length", "32", "--skip-bad-rows", "--json"});
  expect_done(files);
  json same = json::parse(files.out).at("sources").at(0), made = store.at("sources").at(0);
  same.erase("name");
  made.erase("name");
  EXPECT_EQ(same, made);
  const ChildResult table = place_.run({"data", "stats", "made.h5"});
  EXPECT_NE(table.out.find("left out 1 empty documents, 1 malformed rows"), std::string::npos)
      << table.out;
}

// Packs have the numbers that the log of the run gives them, over all of its sources.
TEST_F(DataView, PacksOfARunFile) {
  const std::vector<std::string> sources =
      text({"data.train=[{path: text.jsonl}, {path: rows.jsonl}]", "data.eval={fraction: 0.1}"});
  const json counted = stats(sources).at("sources");
  const auto packs = [&](size_t part) { return counted.at(part).at("packs").get<int64_t>(); };
  const auto show = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "run.yaml");
    words.insert(words.begin() + 1, sources.begin(), sources.end());
    return inspect(words);
  };
  const std::string last = show({"--packed", "--row", std::to_string(packs(0) - 1), "--n", "2"});
  EXPECT_NE(last.find("pack " + std::to_string(packs(0) - 1) + " of train: text.jsonl:"),
            std::string::npos)
      << last;
  EXPECT_NE(last.find("pack " + std::to_string(packs(0)) + " of train: rows.jsonl:"),
            std::string::npos)
      << last;
  EXPECT_NE(last.find("──── document 0: text.jsonl:"), std::string::npos) << last;
  EXPECT_NE(last.find("<</s>:2>"), std::string::npos) << last;
  const std::string held = show({"--split", "eval"});
  EXPECT_NE(held.find("document 0 of eval: text.jsonl:"), std::string::npos) << held;
  const ChildResult beyond = call(
      {"data", "inspect", "run.yaml", "--packed", "--row", std::to_string(packs(0) + packs(1))},
      sources);
  expect_error(beyond, 2, {"--row", "a number below " + std::to_string(packs(0) + packs(1))});
  // Every token of every pack, from the cache that the run itself uses.
  EXPECT_TRUE(fs::exists(place_ / "run/cache"));
  EXPECT_FALSE(fs::exists(place_ / "run/run.yaml"));
  const std::string samples =
      inspect({"run.yaml", "--packed", "data.train=[{path: rows.jsonl}]", "data.packing=false"});
  EXPECT_NE(samples.find("sample 0 of train: rows.jsonl:"), std::string::npos) << samples;
}

// In the order of the file, each with its line; nothing is left behind.
TEST_F(DataView, RowsOfFiles) {
  const std::vector<std::string> files = {"text.jsonl", "--tokenizer", "tok", "--skip-bad-rows"};
  const auto show = [&](std::vector<std::string> more) {
    more.insert(more.begin(), files.begin(), files.end());
    return inspect(more);
  };
  const std::string some = show({"--row", "6", "--n", "2"});
  EXPECT_NE(some.find("document 6 of text.jsonl (jsonl): text.jsonl:7, "), std::string::npos)
      << some;
  EXPECT_NE(some.find("⟦<<s>:1>⟧" + row_text(6) + "<</s>:2>\n"), std::string::npos) << some;
  EXPECT_NE(some.find("document 7 of text.jsonl (jsonl): no text, left out"), std::string::npos)
      << some;
  // Behind the malformed row the line runs ahead of the row.
  const std::string late = show({"--row", "100"});
  EXPECT_NE(late.find("text.jsonl:102, "), std::string::npos) << late;
  EXPECT_NE(late.find(row_text(101)), std::string::npos) << late;
  const std::string labels = show({"--show", "labels"});
  EXPECT_TRUE(labels.find("\n0\t0\t0\t1\t<s>\t") != std::string::npos) << labels;
  const std::string ids = inspect({"rows.jsonl"});
  EXPECT_NE(ids.find("⟦1⟧6 11"), std::string::npos) << ids;
  expect_done(call({"data", "inspect"}, {"text.jsonl", "--tokenizer", "tok", "--skip-bad-rows",
                                         "--html", "page.html", "--n", "3"}));
  EXPECT_NE(slurp(place_ / "page.html").find("<h2>document 2 of text.jsonl"), std::string::npos);
  // Packed as a run with this tokenizer and length would have it.
  const std::string packs = show({"--packed", "--max-length", "32", "--row", "3", "--n", "2"});
  std::vector<std::string> run = text({"--packed", "--row", "3", "--n", "2"});
  run.insert(run.begin(), "run.yaml");
  EXPECT_EQ(packs, inspect(run));
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(place_.path()))
    left.insert(entry.path().filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"page.html", "rows.jsonl", "run", "run.yaml", "text.jsonl",
                                         "tmp", "tok"}));
  EXPECT_TRUE(fs::is_empty(place_ / "tmp"));
}

TEST_F(DataView, WhatCannotBeShownIsOneLine) {
  const auto refused = [&](const std::vector<std::string>& words, int code,
                           const std::vector<std::string>& says) {
    for (const char* verb : {"inspect", "stats"})
      expect_error(call({"data", verb}, words), code, says);
  };
  refused({"absent.yaml"}, 3, {"absent.yaml"});
  refused({"absent.jsonl"}, 3, {"absent.jsonl"});
  refused({"text.jsonl", "--skip-bad-rows"}, 2, {"--tokenizer", "for text"});
  refused({"text.jsonl", "rows.jsonl"}, 2, {"rows.jsonl", "one path", "pattern in quotes"});
  refused({"text.jsonl", "--format", "jsnl"}, 2, {"--format", "jsonl"});
  refused({"run.yaml", "--max-length", "9"}, 2, {"--max-length", "data.max_length"});
  refused({"run.yaml", "--tokenizer", "tok"}, 2, {"--tokenizer", "model.tokenizer"});
  refused({"run.yaml", "--unpacked"}, 2, {"--unpacked", "data.packing"});
  refused({"run.yaml", "data.max_lenght=9"}, 2, {"data.max_lenght", "data.max_length"});
  refused({"run.yaml", "data.train=[{path: absent.jsonl}]"}, 3, {"absent.jsonl"});
  expect_error(call({"data", "stats", "text.jsonl", "--tokenizer", "tok"}, {}), 3,
               {"text.jsonl:21", "tekst", "text"});
  expect_error(call({"data", "inspect", "text.jsonl", "--tokenizer", "tok", "--row", "30"}, {}), 3,
               {"text.jsonl:21"});
  expect_error(call({"data", "inspect", "rows.jsonl", "--row", "40"}, {}), 2,
               {"--row", "a number below 40, the documents of rows.jsonl"});
  expect_error(call({"data", "inspect", "rows.jsonl", "--row", "-1"}, {}), 2, {"--row", "-1"});
  expect_error(call({"data", "inspect", "rows.jsonl", "--max-length", "9"}, {}), 2,
               {"--max-length", "--packed"});
  expect_error(call({"data", "inspect", "rows.jsonl", "--split", "eval"}, {}), 2, {"--split"});
  expect_error(call({"data", "inspect", "run.yaml", "--verify"}, {}), 2,
               {"--verify", "token store"});
  expect_error(call({"data", "stats", "rows.jsonl", "--ranks", "2"}, {}), 2, {"--ranks"});
  expect_error(call({"data", "inspect", "run.yaml", "--split", "eval"}, {}), 2,
               {"--split", "held out", "run.yaml"});
  place_.write("empty.txt", "");
  expect_error(call({"data", "stats", "empty.txt", "--tokenizer", "tok"}, {}), 3,
               {"empty.txt: expected at least one training document"});
  // As its training says it.
  const std::vector<std::string> few = {"data.train=[{synthetic: {documents: 2, length: 10}}]",
                                        "train.compat.sampler=true", "train.epochs=null",
                                        "train.steps=5"};
  expect_error(call({"data", "stats", "run.yaml"}, few), 3,
               {"4 full packs, a global batch, got 0"});
  expect_error(call({"train", "run.yaml", "--dry-run"}, few), 3, {"4 full packs, a global batch"});
  fs::remove(place_ / "tmp");
  expect_error(call({"data", "stats", "rows.jsonl"}, {}), 4, {"TMPDIR"});
  fs::create_directory(place_ / "tmp");
  // Ids that the tokenizer does not have, as training would say it.
  place_.write("high.jsonl", "{\"tokens\": [1, 2, 300]}\n");
  for (const char* form : {"--skip-bad-rows", "--packed"})
    expect_error(call({"data", "inspect", "high.jsonl", "--tokenizer", "tok", form}, {}), 3,
                 {"high.jsonl:1", "0..299", "300"});
}

TEST_F(DataView, AStopWhileFilesAreTokenisedLeavesNothing) {
  std::string rows;
  for (int row = 0; row < 300'000; ++row)
    rows += "{\"tokens\": [" + std::to_string(row % 90) + ", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]}\n";
  place_.write("many.jsonl", rows);
  ChildOptions options = place_.options();
  options.variables["TMPDIR"] = (place_ / "tmp").string();
  Child child(command_of({"data", "stats", "many.jsonl"}), options);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (fs::is_empty(place_ / "tmp") && std::chrono::steady_clock::now() < end) usleep(1000);
  child.signal(SIGINT);
  expect_error(child.wait(), 75, {"stopped while the text was tokenised"});
  EXPECT_TRUE(fs::is_empty(place_ / "tmp"));
}

// The log of a run begins with its first pack, marks and names of specials and all.
TEST_F(DataView, TrainingShowsItsFirstPack) {
  const ChildResult trained = call({"train", "run.yaml", "--max-steps", "1"}, text());
  expect_done(trained);
  std::vector<std::string> first = text({"--packed"});
  first.insert(first.begin(), "run.yaml");
  std::istringstream lines(inspect(first));
  std::string heading, border, body;
  std::getline(lines, heading);
  std::getline(lines, border);
  std::getline(lines, body);
  EXPECT_NE(trained.err.find("beginning of the first pack: "), std::string::npos) << trained.err;
  EXPECT_NE(trained.err.find(body), std::string::npos) << body << "\n" << trained.err;
}

}  // namespace
}  // namespace ink

// The whole way: text -> tokenizer -> store -> training -> generation -> export -> inspection.

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string corpus() {
  const std::vector<std::string> who = {"the cat", "a small dog", "my old friend", "the red fox"};
  const std::vector<std::string> does = {"runs over", "looks at", "jumps across", "sleeps near"};
  const std::vector<std::string> what = {"the river", "a green hill", "the quiet house",
                                         "the road"};
  std::string rows;
  for (size_t i = 0; i < 400; ++i) {
    const std::string text = who[i % 4] + " " + does[i / 4 % 4] + " " + what[i / 16 % 4] +
                             " while the moon number " + std::to_string(i) + " shines.";
    rows += json{{"text", text + " And then " + text}}.dump() + "\n";
  }
  return rows;
}

TEST(RoundTrip, TextToModelAndBack) {
  const Workplace place;
  place.write("corpus.jsonl", corpus());
  expect_done(place.run(
      {"data", "tokenizer", "--in", "corpus.jsonl", "--out", "tok", "--vocab-size", "350"}));
  expect_done(
      place.run({"data", "prepare", "--in", "corpus.jsonl", "--out", "tokens.h5", "--tokenizer",
                 "tok/tokenizer.model", "--max-length", "32", "--eval-fraction", "0.05"}));
  const ChildResult shown = place.run({"data", "inspect", "tokens.h5", "--tokenizer",
                                       "tok/tokenizer.model", "--row", "3", "--no-color"});
  expect_done(shown);
  EXPECT_NE(shown.out.find("shines."), std::string::npos) << shown.out;
  const json stats = json::parse(place.run({"data", "stats", "tokens.h5", "--json"}).out);
  EXPECT_EQ(
      stats["sources"][0]["documents"].get<int>() + stats["sources"][1]["documents"].get<int>(),
      400);
  expect_done(place.run({"inspect", "tokens.h5", "--verify"}));

  place.write_run("train: {steps: 5, global_batch_size: 4}\ncheckpoint: {every: 2}");
  const std::vector<std::string> overrides = {"model.vocab_size=350",
                                              "model.tokenizer=tok/tokenizer.model",
                                              "data.train=[{path: tokens.h5}]"};
  std::vector<std::string> train = {"train", "run.yaml", "--out", "run"};
  train.insert(train.end(), overrides.begin(), overrides.end());
  const ChildResult trained = place.run(train);
  expect_done(trained);
  EXPECT_EQ(step_columns(place / "run").size(), 5u);
  EXPECT_LT(step_columns(place / "run").at(5)["loss"].get<double>(),
            step_columns(place / "run").at(1)["loss"].get<double>());

  // The run, its last checkpoint and its hf/ are the same model.
  std::string answer;
  for (const char* model : {"run", "run/step-5", "run/step-5/hf"}) {
    const ChildResult result = place.run({"generate", "--model", model, "--prompt", "the cat",
                                          "--max-new-tokens", "8", "--temperature", "0", "--json"});
    expect_done(result);
    if (answer.empty()) answer = result.out;
    EXPECT_EQ(result.out, answer) << model;
  }
  const ChildResult streamed = place.run({"generate", "--model", "run", "--prompt", "the cat",
                                          "--max-new-tokens", "8", "--temperature", "0"});
  EXPECT_EQ(streamed.out, json::parse(answer)["text"].get<std::string>() + "\n");
  // step-4 has no hf/: the state itself.
  expect_done(
      place.run({"generate", "--model", "run/step-4", "--prompt", "the", "--max-new-tokens", "4"}));

  expect_done(place.run({"export", "hf", "--in", "run", "--out", "made"}));
  const auto exported = files_below(place / "made"), saved = files_below(place / "run/step-5/hf");
  EXPECT_EQ(exported.at("model.safetensors"), saved.at("model.safetensors"));
  EXPECT_TRUE(exported.contains("tokenizer.json"));
  const ChildResult again = place.run({"generate", "--model", "made", "--prompt", "the cat",
                                       "--max-new-tokens", "8", "--temperature", "0", "--json"});
  EXPECT_EQ(again.out, answer);

  for (const char* path : {"run", "run/step-5", "run/step-4", "made"}) {
    const ChildResult whole = place.run({"inspect", path, "--verify", "--json"});
    expect_done(whole);
    EXPECT_TRUE(json::parse(whole.out)["verified"].get<bool>());
  }
  const json run = json::parse(place.run({"inspect", "run", "--json"}).out);
  EXPECT_EQ(run["kind"], "run");
  EXPECT_EQ(run["checkpoints"].size(), 3u);
  EXPECT_EQ(run["last_step"]["step"], 5);
  const json checkpoint = json::parse(place.run({"inspect", "run/step-5", "--json"}).out);
  EXPECT_EQ(checkpoint["trainer"]["step"], 5);
  EXPECT_EQ(checkpoint["parameters"], run["model"]["parameters"]);
}

// Trained in bf16, the exported f32 weights are the masters and not the rounded parameters.
TEST(RoundTrip, MastersAreExportedWhereTheTypeIsWider) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  expect_done(place.run({"train", "run.yaml", "--out", "run", "model.dtype=bf16"}));
  expect_done(place.run({"export", "hf", "--in", "run", "--out", "wide", "--dtype", "fp32"}));
  expect_done(place.run({"export", "hf", "--in", "run", "--out", "narrow"}));
  expect_done(place.run({"export", "hf", "--in", "wide", "--out", "rounded", "--dtype", "bf16"}));
  const auto bytes = [&](const char* folder) {
    return slurp(place / folder / "model.safetensors");
  };
  EXPECT_EQ(bytes("narrow"), bytes("run/step-2/hf"));
  EXPECT_EQ(bytes("rounded"), bytes("narrow"));
  expect_done(place.run({"export", "hf", "--in", "narrow", "--out", "padded", "--dtype", "fp32"}));
  EXPECT_NE(bytes("wide"), bytes("padded"));
}

TEST(RoundTrip, DryRunWritesNothing) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  const auto before = files_below(place.path());
  const ChildResult result = place.run({"train", "run.yaml", "--dry-run"});
  expect_done(result);
  EXPECT_NE(result.out.find("weights"), std::string::npos);
  EXPECT_EQ(files_below(place.path()), before);
}

}  // namespace
}  // namespace ink

// A run from files and the command line: unknown keys, bases, overrides, and the dump that reads
// back.
#include "configs/schema/run_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/configs/config_case.h"

namespace ink {
namespace {

TEST(UnknownKey, NamesPlaceAndNearest) {
  EXPECT_EQ(read_error("model: {}\noptim:\n  eps: 1e-8\n  learing_rate: 1\n"),
            "error[2]: run.yaml:4:3: unknown key optim.learing_rate; nearest: optim.lr");
  EXPECT_EQ(read_error("lerning_rate: 1"),
            "error[2]: run.yaml:1:1: unknown key lerning_rate; nearest: optim.lr");
  EXPECT_EQ(read_error("data:\n  train:\n    - pth: a\n"),
            "error[2]: run.yaml:3:7: unknown key data.train.0.pth; nearest: data.train[].path");
  EXPECT_EQ(read_error("faults: {nan_gradient: {stp: 1}}"),
            "error[2]: run.yaml:1:25: unknown key faults.nan_gradient.stp; nearest: "
            "faults.nan_gradient.step");
  EXPECT_EQ(read_error("trian: {}"), "error[2]: run.yaml:1:1: unknown key trian; nearest: train");
  EXPECT_EQ(read_error("log: {ploot: true}"),
            "error[2]: run.yaml:1:7: unknown key log.ploot; nearest: log.plot");
}

TEST(UnknownKey, AnswersForeignNamesWithOurs) {
  EXPECT_EQ(read_error("learning_rate: 1e-4"),
            "error[2]: run.yaml:1:1: learning_rate is LLaMA-Factory's; here it is optim.lr");
  EXPECT_EQ(read_error("train: {gradient_checkpointing: true}"),
            "error[2]: run.yaml:1:9: train.gradient_checkpointing is axolotl's; here it is "
            "train.recompute");
  EXPECT_EQ(read_error("data: {pack_to_max_length: true}"),
            "error[2]: run.yaml:1:8: data.pack_to_max_length is XTuner's; here it is data.packing");
  EXPECT_EQ(read_error("model: {lora_rank: 8}"),
            "error[2]: run.yaml:1:9: model.lora_rank is LLaMA-Factory's; here it is adapter.r, "
            "which is not built yet");
}

TEST(UnknownKey, SaysWhatIsNotBuiltYet) {
  EXPECT_EQ(read_error("adapter: {type: lora}"),
            "error[2]: run.yaml:1:1: adapter is not built yet");
  EXPECT_EQ(read_error("model: {quant: {bits: 4}}"),
            "error[2]: run.yaml:1:9: model.quant is not built yet");
  EXPECT_EQ(read_error("data: {train: [{path: a, template: x}]}"),
            "error[2]: run.yaml:1:26: data.train.0.template is not built yet");
}

TEST(Compat, TheWordIsAllSwitchesAndAMapSomeOfThem) {
  const Compat all = read_text("train: {compat: internevo}").train.compat;
  EXPECT_EQ(switches_of(all),
            (std::vector<std::string>{"loss_mean", "clip_per_group", "decay_all", "bf16_loss_scale",
                                      "scaler", "clip_zero", "init", "sampler", "log_line"}));
  const Compat some = read_text("train: {compat: {scaler: true, init: false}}").train.compat;
  EXPECT_EQ(switches_of(some), std::vector<std::string>{"scaler"});
  EXPECT_TRUE(switches_of(read_text("train: {compat: {}}").train.compat).empty());
  EXPECT_TRUE(switches_of(read_text("train: {steps: 1}").train.compat).empty());
}

TEST(Compat, RefusesOtherWordsAndWhatIsNotBuilt) {
  EXPECT_EQ(read_error("train: {compat: interevo}"),
            "error[2]: run.yaml:1:17: train.compat: expected internevo or a map of switches, got "
            "interevo");
  EXPECT_EQ(read_error("train: {compat: [scaler]}"),
            "error[2]: run.yaml:1:17: train.compat: expected internevo or a map of switches, got a "
            "list of 1");
  EXPECT_EQ(read_error("train: {compat: {moe: true}}"),
            "error[2]: run.yaml:1:18: train.compat.moe is not built yet");
  EXPECT_EQ(read_error("train: {compat: {los_mean: true}}"),
            "error[2]: run.yaml:1:18: unknown key train.compat.los_mean; nearest: "
            "train.compat.loss_mean");
}

TEST(Compat, TheDumpHasEverySwitchAndReadsBack) {
  const RunOptions run = read_text("train: {compat: internevo}");
  const std::string text = dump_run(run);
  EXPECT_NE(text.find("  compat:\n    loss_mean: true\n"), std::string::npos) << text;
  EXPECT_EQ(read_text(text), run);
}

class RunFile : public testing::Test {
 protected:
  std::string error_of(const std::string& path, const std::vector<std::string>& overrides = {}) {
    return error_line([&] { read_run(read_merged(path, overrides)); });
  }
  RunOptions options_of(const std::string& path, const std::vector<std::string>& overrides = {}) {
    return read_run(read_merged(path, overrides)).options;
  }
  TemporaryFolder folder_;
};

TEST_F(RunFile, BasesMergeMapsAndReplaceLists) {
  std::filesystem::create_directory(folder_.path() / "models");
  folder_.write("models/shape.yaml", "model: {hidden_size: 64, num_hidden_layers: 2}\n");
  folder_.write("common.yaml",
                "base: models/shape.yaml\ndata: {train: [{path: a}, {path: b}]}\n"
                "train: {steps: 10, seed: 1}\n");
  const std::string path =
      folder_.write("run.yaml",
                    "base: common.yaml\nmodel: {num_hidden_layers: 4}\ndata: {train: [{path: c}]}\n"
                    "train: {steps: null, epochs: 2}\n");
  const RunOptions run = options_of(path);
  EXPECT_EQ(run.model.hidden_size, 64);
  EXPECT_EQ(run.model.num_hidden_layers, 4);
  ASSERT_EQ(run.data.train.size(), 1u);
  EXPECT_EQ(run.data.train[0].path, "c");
  EXPECT_EQ(run.train.steps, std::nullopt);
  EXPECT_EQ(run.train.epochs, 2.0);
  EXPECT_EQ(run.train.seed, 1);
}

TEST_F(RunFile, LaterBasesWin) {
  folder_.write("a.yaml", "train: {seed: 1, steps: 1}\n");
  folder_.write("b.yaml", "train: {seed: 2}\n");
  const std::string path = folder_.write("run.yaml", "base: [a.yaml, b.yaml]\n");
  EXPECT_EQ(options_of(path).train.seed, 2);
  EXPECT_EQ(options_of(path).train.steps, 1);
}

TEST_F(RunFile, ErrorsInABaseNameTheBase) {
  const std::string base = folder_.write("base.yaml", "optim:\n  lr: fast\n");
  const std::string path = folder_.write("run.yaml", "base: base.yaml\n");
  EXPECT_EQ(error_of(path),
            "error[2]: " + base + ":2:7: optim.lr: expected a finite number above 0, got fast");
}

TEST_F(RunFile, RefusesCyclesAndMissingBases) {
  const std::string path = folder_.write("run.yaml", "base: other.yaml\n");
  const std::string missing = (folder_.path() / "other.yaml").string();
  EXPECT_EQ(error_of(path),
            "error[3]: " + path + ":1:7: base: expected a file, found no " + missing);
  const std::string other = folder_.write("other.yaml", "base: run.yaml\n");
  EXPECT_EQ(error_of(path), "error[2]: " + other + ":1:7: base: " + path + " includes itself");
  folder_.write("other.yaml", "base: {a: 1}\n");
  EXPECT_EQ(error_of(path),
            "error[2]: " + other + ":1:7: base: expected a file or a list of files, got a map");
}

TEST_F(RunFile, ManyFilesThroughBasesAreBounded) {
  folder_.write("0.yaml", "train: {seed: 1}\n");
  for (int i = 1; i <= 8; ++i) {
    const std::string below = std::to_string(i - 1) + ".yaml";
    folder_.write(std::to_string(i) + ".yaml", "base: [" + below + ", " + below + "]\n");
  }
  EXPECT_NE(error_of((folder_.path() / "8.yaml").string()).find("at most 64 files"),
            std::string::npos);
  EXPECT_EQ(options_of((folder_.path() / "4.yaml").string()).train.seed, 1);
}

TEST_F(RunFile, OverridesWin) {
  const std::string path =
      folder_.write("run.yaml", "data: {train: [{path: a}]}\ntrain: {steps: 5}\n");
  const RunOptions run =
      options_of(path, {"optim.lr=1e-5", "data.train.0.path=b", "data.train.1.path=c",
                        "train.steps=", "train.epochs=1", "data.eval={fraction: 0.5}",
                        "train.skip_steps=[[2,5],10]", "log.samples.prompts.0=Once",
                        "optim.lr=2e-5", "checkpoint.dir=a=b"});
  EXPECT_EQ(run.optim.lr, 2e-5);
  ASSERT_EQ(run.data.train.size(), 2u);
  EXPECT_EQ(run.data.train[0].path, "b");
  EXPECT_EQ(run.data.train[1].path, "c");
  EXPECT_EQ(run.train.steps, std::nullopt);
  EXPECT_EQ(run.train.epochs, 1.0);
  EXPECT_EQ(run.data.eval.fraction, 0.5);
  EXPECT_EQ(run.train.skip_steps.size(), 2u);
  EXPECT_EQ(run.log.samples.prompts, std::vector<std::string>{"Once"});
  EXPECT_EQ(run.checkpoint.dir, "a=b");
}

TEST_F(RunFile, OverrideErrorsSayCommandLine) {
  const std::string path = folder_.write("run.yaml", "data: {train: [{path: a}]}\n");
  const std::pair<std::string, std::string> refusals[] = {
      {"optim.lr=fast", "optim.lr: expected a finite number above 0, got fast"},
      {"optim.lrr=1", "unknown key optim.lrr; nearest: optim.lr"},
      {"learning_rate=1", "learning_rate is LLaMA-Factory's; here it is optim.lr"},
      {"optim.lr", "expected key=value, got optim.lr"},
      {"=1", "expected key=value, got =1"},
      {"optim..lr=1", "expected a key such as optim.lr, got optim..lr"},
      {"data.train.2.path=x", "data.train: expected an element from 0 to 1, got 2"},
      {"data.train.path=x", "data.train: expected an element from 0 to 1, got path"},
      {"base=x.yaml", "base can only be written in a file"},
      {"optim.lr.x=1", "optim.lr: expected a finite number above 0, got a map"},
      {"model.path=\xff", "model.path: expected UTF-8 text, got byte 0xff"},
      {"train.skip_steps=[[1",
       "train.skip_steps: expected a value in YAML, got [[1 (a closing ] is "
       "missing)"},
      {"optim.lr=[1", "optim.lr: expected a value in YAML, got [1 (a closing ] is missing)"},
      {"optim.betas={a: [1",
       "optim.betas: expected a value in YAML, got {a: [1 (a closing ] is "
       "missing)"},
      {"optim.lr=1: 2: 3", "optim.lr: expected a value in YAML, got 1: 2: 3 (illegal map value)"},
      {"data.train=[\"[\", 1: 2: 3]",
       "data.train: expected a value in YAML, got [\"[\", 1: 2: 3] ("},
      {"optim.lr=&x 1", "optim.lr: expected no anchors, got &x"},
  };
  for (const auto& [text, message] : refusals) {
    const std::string error = error_of(path, {text});
    EXPECT_EQ(error.rfind("error[2]: command line: " + message, 0), 0u) << text << " -> " << error;
  }
}

TEST_F(RunFile, CheckpointFolderFallsBackToTheName) {
  const std::string path = folder_.write("my.yaml", R"(
model: {path: somewhere}
data: {train: [{path: a.txt}]}
train: {steps: 3}
)");
  EXPECT_EQ(load_run(path).options.checkpoint.dir, "runs/my");
  const std::vector<std::string> overrides = {"checkpoint.dir=elsewhere"};
  EXPECT_EQ(load_run(path, overrides).options.checkpoint.dir, "elsewhere");
}

TEST_F(RunFile, DumpReadsBackEqual) {
  const RunOptions run = read_text(R"(
model:
  tokenizer: "odd: name # \"quoted\"\nsecond line"
  family: qwen2
  hidden_size: 64
  rope_scaling: {type: dynamic, factor: 2.5}
  qkv_bias: true
  dropout: 0.1
data:
  train:
    - {path: "null", weight: 0.3333333333333333}
    - {synthetic: {documents: 3, length: 4}, weight: 1e-300}
  eval: [{name: a, path: "~"}, {name: "12", path: "yes"}]
  cache: 中文/缓存
  on_bad_row: skip
optim:
  lr: 0.00012345678901234567
  betas: [0.1, 0.7]
  groups: [{match: "*.norm", lr: 0}, {match: "*", weight_decay: 5}]
  schedule: wsd
  decay_steps: 7
train:
  epochs: 1.5
  batch_ramp: {start: 1, increment: 2, every: 3}
  skip_steps: [[2, 5], 10]
  memory_limit: 3MiB
  seed: 9007199254740993
log: {samples: {every: 2, prompts: ["", "true", "\t x", "- a"]}}
kernels: {linear_forward: plain, "no": "1"}
faults: {}
)");
  const std::string text = dump_run(run);
  EXPECT_EQ(read_text(text), run) << text;
  EXPECT_EQ(dump_run(read_text(text)), text);
}

TEST_F(RunFile, DefaultsDumpAndReadBackEqual) {
  EXPECT_EQ(read_text(dump_run(RunOptions{})), RunOptions{});
}

}  // namespace
}  // namespace ink

// What the verbs that need no training do: generate, export hf, inspect, config, doctor.

#include <algorithm>
#include <sstream>

#include "tests/cli/inkstone_run.h"
#include "tests/support/golden_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string golden(const std::string& name) { return golden_folder(name).string(); }

std::string words_of(const std::vector<int>& ids) {
  std::string text;
  for (const int id : ids) text += std::to_string(id) + " ";
  return text;
}

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(json::parse(line));
  return rows;
}

// The reference continued the same prompt greedily with the same weights.
TEST(Generate, GreedyTokensOfTheReference) {
  const Workplace place;
  for (const char* name : {"internlm1", "internlm2", "internlm2_tied", "qwen2_tied"}) {
    const json greedy = json::parse(slurp(golden(name) + "/expected.json")).at("greedy");
    const auto want = greedy.at("continuation").get<std::vector<int>>();
    const ChildResult result =
        place.run({"generate", "--model", golden(name), "--ids", words_of(greedy.at("prompt")),
                   "--temperature", "0", "--max-new-tokens", std::to_string(want.size()), "--dtype",
                   "fp32", "--json"});
    expect_done(result);
    const std::vector<json> rows = lines_of(result.out);
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].at("prompt_ids"), greedy.at("prompt"));
    EXPECT_EQ(rows[0].at("ids"), greedy.at("continuation")) << name;
    EXPECT_EQ(rows[0].at("stop_reason"), "length");
    ASSERT_EQ(rows[0].at("logprobs").size(), want.size());
    for (const double logprob : rows[0].at("logprobs")) EXPECT_LT(logprob, 0);
  }
}

TEST(Generate, RepeatsWithItsSeed) {
  const Workplace place;
  const auto run = [&](const char* seed) {
    const ChildResult result =
        place.run({"generate", "--model", golden("internlm2"), "--ids", "1 2 3", "--ids", "4",
                   "--temperature", "1", "--top-k", "0", "--top-p", "1", "--seed", seed,
                   "--max-new-tokens", "12", "--json"});
    expect_done(result);
    return result.out;
  };
  const std::string first = run("1");
  EXPECT_EQ(lines_of(first).size(), 2u);
  EXPECT_EQ(run("1"), first);
  EXPECT_NE(run("2"), first);
}

TEST(Generate, FileOfRowsIntoAFile) {
  const Workplace place;
  const ChildResult result = place.run({"generate", "--model", golden("internlm2"), "--ids", "1 2",
                                        "-o", "answers.jsonl", "--max-new-tokens", "3"});
  expect_done(result);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(lines_of(slurp(place / "answers.jsonl")).size(), 1u);
  place.write("prompts.jsonl", "{\"prompt\": \"a\"}\n\n{\"txt\": \"b\"}\n");
  expect_error(place.run({"generate", "--model", golden("internlm2"), "-i", "prompts.jsonl"}), 3,
               {"prompts.jsonl:3", "text"});
}

TEST(Export, RoundTripKeepsEveryWeight) {
  const Workplace place;
  for (const char* name :
       {"internlm2", "internlm2_wide", "internlm1", "llama_tied", "qwen2_tied"}) {
    const std::string out = std::string("made-") + name;
    expect_done(place.run({"export", "hf", "--in", golden(name), "--out", out, "--dtype", "fp32",
                           "--max-shard-size", "20kB"}));
    expect_done(place.run({"inspect", out, "--verify"}));
    const auto tokens = [&](const std::string& model) {
      return place
          .run({"generate", "--model", model, "--ids", "5 6 7", "--temperature", "0",
                "--max-new-tokens", "8", "--dtype", "fp32", "--json"})
          .out;
    };
    EXPECT_FALSE(tokens(golden(name)).empty());
    EXPECT_EQ(tokens(out), tokens(golden(name))) << name;
    const json shown = json::parse(place.run({"inspect", out, "--json"}).out);
    const json source = json::parse(place.run({"inspect", golden(name), "--json"}).out);
    EXPECT_EQ(shown["model"]["parameters"], source["model"]["parameters"]);
    EXPECT_GT(shown["files"].size(), 1u);
  }
}

TEST(Export, HalfPrecisionAndEqualBytes) {
  const Workplace place;
  for (const char* dtype : {"bf16", "fp16"}) {
    for (const char* out : {"one", "two"})
      expect_done(place.run({"export", "hf", "--in", golden("internlm2"), "--out", out, "--dtype",
                             dtype, "--overwrite"}));
    EXPECT_EQ(files_below(place / "one"), files_below(place / "two"));
    const json shown = json::parse(place.run({"inspect", "one", "--json"}).out);
    EXPECT_TRUE(shown["dtypes"].contains(std::string(dtype) == "bf16" ? "BF16" : "F16"))
        << shown["dtypes"];
  }
}

TEST(Inspect, EveryKindOfPath) {
  const Workplace place;
  const std::string model = golden("internlm2");
  const json directory = json::parse(place.run({"inspect", model, "--json", "--tensors"}).out);
  EXPECT_EQ(directory["kind"], "huggingface");
  EXPECT_EQ(directory["model"]["family"], "internlm2");
  const json file =
      json::parse(place.run({"inspect", model + "/model.safetensors", "--json", "--tensors"}).out);
  EXPECT_EQ(file["kind"], "safetensors");
  EXPECT_EQ(file["tensors"].size(), directory["tensors"].size());
  const ChildResult text = place.run({"inspect", model, "--tensors"});
  EXPECT_NE(text.out.find("model.norm.weight"), std::string::npos);
  place.write_run("train: {steps: 2}");
  const json config = json::parse(place.run({"inspect", "run.yaml", "--json"}).out);
  EXPECT_EQ(config["kind"], "config");
  EXPECT_GT(config["model"]["parameters"].get<int64_t>(), 0);
}

TEST(Inspect, DiffNamesWhatDiffers) {
  const Workplace place;
  const std::string model = golden("internlm2");
  const auto diff = [&](const std::string& path, const std::string& other) {
    const ChildResult result = place.run({"inspect", path, "--diff", other, "--json"});
    expect_done(result);
    return json::parse(result.out);
  };
  const json same = diff(model, model + "/model.safetensors");
  EXPECT_EQ(same["equal"], true);
  EXPECT_EQ(same["common_tensors"], same["equal_tensors"]) << same;
  EXPECT_EQ(
      same["common_tensors"],
      json::parse(place.run({"inspect", model, "--json", "--tensors"}).out)["tensors"].size());

  for (const char* dtype : {"fp32", "bf16"})
    expect_done(place.run({"export", "hf", "--in", model, "--out", dtype, "--dtype", dtype}));
  const json rounded = diff("fp32", "bf16");
  EXPECT_EQ(rounded["equal"], false);
  EXPECT_EQ(rounded["only_in_path"], json::array());
  for (const json& line : rounded["different"]) {
    EXPECT_EQ(line["dtype"], (json{"F32", "BF16"})) << line;
    // Half a unit in the last place of bf16.
    EXPECT_LT(line["rel_frobenius"].get<double>(), 0x1p-8) << line;
  }
  if (golden_is_of_the_tree()) {  // elsewhere both may have the same shapes
    const json wide = diff(model, golden("internlm2_wide"));
    EXPECT_TRUE(std::ranges::any_of(wide["different"], [](const json& line) {
      return line["shape"].front().is_array() && line["rel_frobenius"].is_null();
    })) << wide;
  }

  place.write_run("train: {steps: 2}\ncheckpoint: {every: 1}");
  expect_done(place.run({"train", "run.yaml", "--out", "run"}));
  const json steps = diff("run/step-1", "run");
  EXPECT_EQ(steps["equal"], false);
  EXPECT_EQ(steps["only_in_path"], json::array());
  EXPECT_GT(steps["different"].size(), 0u);
  for (const json& line : steps["different"]) EXPECT_GT(line["max_abs"].get<double>(), 0) << line;
  EXPECT_EQ(diff("run/step-2", "run")["equal"], true);
  expect_error(place.run({"inspect", model, "--diff", "nothing"}), 3, {"nothing"});
  expect_error(place.run({"inspect", model, "--diff", model, "--verify"}), 2,
               {"--diff", "--verify"});
}

TEST(Config, ListCopyCheckDoc) {
  const Workplace place;
  const ChildResult list = place.run({"config", "list", "-p", "tiny"});
  expect_done(list);
  EXPECT_NE(list.out.find("runs/pretrain_internlm2_tiny"), std::string::npos);
  EXPECT_GT(json::parse(place.run({"config", "list", "--json"}).out).size(), 10u);
  expect_done(place.run({"config", "copy", "pretrain_synthetic", "my.yaml"}));
  expect_done(place.run({"config", "check", "my.yaml"}));
  expect_error(place.run({"config", "copy", "pretrain_synthetic", "my.yaml"}), 4, {"my.yaml"});
  expect_error(place.run({"config", "copy", "pretrain_syntetic", "x.yaml"}), 2,
               {"pretrain_synthetic"});
  const ChildResult doc = place.run({"config", "doc", "optim.lr"});
  EXPECT_NE(doc.out.find("0.0003"), std::string::npos);
  expect_error(place.run({"config", "doc", "no-such-key"}), 2, {"no-such-key"});
  EXPECT_EQ(place.run({"config", "doc", "--markdown"}).out,
            slurp(fs::path(INKSTONE_SOURCE_DIR) / "docs/run-file.md"));
}

TEST(Config, ResolvedFileReadsBackEqual) {
  const Workplace place;
  place.write_run("train: {steps: 3}");
  const ChildResult resolved = place.run({"config", "check", "run.yaml", "optim.lr=2e-4"});
  expect_done(resolved);
  place.write("again.yaml", resolved.out);
  EXPECT_EQ(place.run({"config", "check", "again.yaml"}).out, resolved.out);
}

TEST(Config, KeysOfOtherToolsBesideOurs) {
  const Workplace place;
  place.write(
      "theirs.yaml",
      "learning_rate: 2.0e-4\nlora_rank: 8\nflash_attn: fa2\ntraining: {cutoff_len: 512}\n");
  const ChildResult shown = place.run({"config", "check", "theirs.yaml", "--from", "llamafactory"});
  expect_done(shown);
  EXPECT_EQ(shown.out,
            "learning_rate: 2.0e-4     optim.lr\n"
            "lora_rank: 8              adapter.r (not built yet)\n"
            "flash_attn: fa2           no such key here\n"
            "training.cutoff_len: 512  data.max_length\n");
  expect_error(place.run({"config", "check", "theirs.yaml", "--from", "nemo"}), 2,
               {"expected one of llamafactory, axolotl"});
  place.write("list.yaml", "- 1\n");
  expect_error(place.run({"config", "check", "list.yaml", "--from", "axolotl"}), 2, {"a list"});
}

TEST(Doctor, MeasuresAndNamesEveryKernel) {
  const Workplace place;
  const ChildResult result = place.run({"doctor", "--json"});
  expect_done(result);
  const json report = json::parse(result.out);
  EXPECT_GE(report["cores"].get<int>(), 1);
  EXPECT_GT(report["memory_bytes"].get<int64_t>(), 0);
  EXPECT_GT(report["gemm_flops_per_s"]["f32"].get<double>(), 1e8);
  EXPECT_GT(report["copy_bytes_per_s"].get<double>(), 1e8);
  std::map<std::string, json> kernels;
  for (const json& kernel : report["kernels"]) kernels[kernel["slot"]] = kernel;
  for (const char* slot :
       {"linear_forward", "rms_norm_forward", "attention_forward", "adamw_update"})
    EXPECT_TRUE(kernels.contains(slot)) << slot;
  for (const auto& [slot, kernel] : kernels) {
    EXPECT_FALSE(kernel["candidates"].empty()) << slot;
    for (const auto& [dtype, label] : kernel["ran"].items())
      EXPECT_NE(std::find(kernel["candidates"].begin(), kernel["candidates"].end(), label),
                kernel["candidates"].end())
          << slot << " " << dtype;
  }
  EXPECT_TRUE(kernels["linear_forward"]["ran"].contains("bf16"));
}

}  // namespace
}  // namespace ink

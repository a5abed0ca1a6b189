// Help, version, and command lines that cannot be parsed.

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

TEST(Usage, HelpOfEveryVerbHasTypesAndDefaults) {
  const Workplace place;
  const std::map<std::vector<std::string>, std::vector<std::string>> verbs = {
      {{}, {"train", "data", "generate", "export", "inspect", "config", "doctor", "Exit codes"}},
      {{"train"}, {"--resume", "--max-steps", "--dry-run", "--overwrite", "POSITIVE"}},
      {{"data"}, {"tokenizer", "prepare", "inspect", "stats", "meta"}},
      {{"data", "tokenizer"}, {"--vocab-size INT=32000", "--sample TEXT=10MB"}},
      {{"data", "prepare"}, {"--max-length INT=2048", "--eval-fraction"}},
      {{"data", "inspect"}, {"--show", "text|masked|ids|labels|all"}},
      {{"data", "stats"}, {"--json", "--hist"}},
      {{"generate"},
       {"--max-new-tokens INT=2048", "--temperature FLOAT=0.1", "--top-k INT=40",
        "--top-p FLOAT=0.75", "--repetition-penalty", "--seed", "--stop"}},
      {{"export"}, {"hf"}},
      {{"export", "hf"}, {"--arch", "llama|internlm2|qwen2", "--max-shard-size TEXT=2GB"}},
      {{"inspect"}, {"--tensors", "--verify", "--diff", "--json"}},
      {{"config"}, {"list", "copy", "check", "doc"}},
      {{"config", "list"}, {"--pattern"}},
      {{"doctor"}, {"--json"}},
      {{"completion"}, {"bash|zsh|fish"}}};
  for (const auto& [verb, words] : verbs) {
    for (const char* flag : {"-h", "--help"}) {
      std::vector<std::string> arguments = verb;
      arguments.emplace_back(flag);
      const ChildResult result = place.run(arguments);
      expect_done(result);
      EXPECT_EQ(result.err, "");
      for (const std::string& word : words)
        EXPECT_NE(result.out.find(word), std::string::npos) << word << " in\n" << result.out;
    }
  }
}

TEST(Usage, VersionNamesBuildAndMachine) {
  const Workplace place;
  const ChildResult result = place.run({"--version"});
  expect_done(result);
  for (const char* word : {"inkstone ", "CUDA off", "MPI ", "instruction set "})
    EXPECT_NE(result.out.find(word), std::string::npos) << result.out;
}

TEST(Usage, NearestNameOfWhatIsNotKnown) {
  const Workplace place;
  expect_error(place.run({"trian"}), 2, {"unknown verb \"trian\"", "did you mean train?"});
  expect_error(place.run({"data", "prepre"}), 2,
               {"inkstone data: unknown verb \"prepre\"", "did you mean prepare?"});
  expect_error(place.run({"train", "run.yaml", "--reusme"}), 2,
               {"inkstone train: unknown flag \"--reusme\"", "did you mean --resume?"});
  expect_error(place.run({"inspect", "x", "--jsn"}), 2, {"did you mean --json?"});
  expect_error(place.run({"generate", "--modle=x"}), 2, {"did you mean --model?"});
  expect_error(place.run({"doctor", "now"}), 2, {"unknown argument \"now\""});
}

TEST(Usage, WhatIsMissing) {
  const Workplace place;
  expect_error(place.run({}), 2, {"inkstone: expected one of train, data", "got nothing"});
  expect_error(place.run({"data"}), 2, {"expected one of tokenizer, prepare"});
  expect_error(place.run({"config"}), 2, {"expected one of list, copy, check, doc"});
  expect_error(place.run({"export"}), 2, {"expected one of hf"});
  expect_error(place.run({"train"}), 2, {"inkstone train: expected run, got nothing"});
  expect_error(place.run({"generate"}), 2, {"expected --model, got nothing"});
  expect_error(place.run({"generate", "--model"}), 2, {"--model: expected a value, got nothing"});
}

TEST(Usage, ValuesOfFlags) {
  const Workplace place;
  expect_error(place.run({"train", "run.yaml", "--max-steps", "-3"}), 2,
               {"--max-steps", "above 0", "\"-3\""});
  expect_error(place.run({"train", "run.yaml", "--max-steps", "2.5"}), 2, {"--max-steps"});
  expect_error(place.run({"generate", "--model", "x", "--top-k", "many"}), 2,
               {"--top-k: expected a number, got \"many\""});
  expect_error(place.run({"export", "hf", "--in", "a", "--out", "b", "--arch", "llma"}), 2,
               {"expected one of llama, internlm2, qwen2, got \"llma\"", "nearest: llama"});
  expect_error(place.run({"data", "inspect", "x", "--show", "txt"}), 2, {"nearest: text"});
  expect_error(place.run({"generate", "--model", "x", "--prompt", "a", "--temperature", "-1"}), 2,
               {"temperature", "-1"});
  expect_error(place.run({"generate", "--model", "x"}), 2, {"--prompt", "got none of them"});
  expect_error(place.run({"generate", "--model", "x", "--ids", "1 -2"}), 2, {"--ids", "1 -2"});
  expect_error(place.run({"generate", "--model", "x", "--ids", "1", "--dtype", "fp8"}), 2,
               {"--dtype", "fp32, bf16", "fp8"});
}

// What bash would offer behind these words.
std::string completions(const Workplace& place, const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += " '" + word + "'";
  place.write("complete.sh", "source <(" + std::string(INKSTONE_BINARY) +
                                 " completion bash)\nCOMP_WORDS=(inkstone" + list +
                                 ")\nCOMP_CWORD=" + std::to_string(words.size()) +
                                 "\n_inkstone\necho \"${COMPREPLY[*]}\"\n");
  const ChildResult result = run_child({"bash", "complete.sh"}, place.options());
  expect_done(result);
  EXPECT_EQ(result.err, "");
  return result.out;
}

TEST(Usage, BashCompletesVerbsAndFlags) {
  const Workplace place;
  EXPECT_EQ(completions(place, {"tr"}), "train\n");
  EXPECT_EQ(completions(place, {"data", "pre"}), "prepare\n");
  EXPECT_EQ(completions(place, {"train", "run.yaml", "--dr"}), "--dry-run\n");
  EXPECT_EQ(completions(place, {"data", "inspect", "--pac"}), "--packed\n");
  EXPECT_EQ(completions(place, {"inspect", "x", "--te"}), "--tensors\n");
  EXPECT_EQ(completions(place, {"inspect", "x", "--pac"}), "\n");
  EXPECT_EQ(completions(place, {"train", "--qui"}), "--quiet\n");
}

TEST(Usage, CompletionScriptsNameEveryVerb) {
  const Workplace place;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const ChildResult script = place.run({"completion", shell});
    expect_done(script);
    for (const char* word : {"'train", "' data prepare'", "--max-steps", "' export hf'"})
      EXPECT_NE(script.out.find(word), std::string::npos) << word << " for " << shell;
  }
  expect_error(place.run({"completion", "csh"}), 2, {"expected one of bash, zsh, fish", "csh"});
}

TEST(Usage, ResultsThatCannotBeWrittenAreAnError) {
  const Workplace place;
  const std::string command = std::string(INKSTONE_BINARY) + " config doc > /dev/full";
  const ChildResult result = run_child({"sh", "-c", command}, place.options());
  expect_error(result, 4, {"No space left"});
}

}  // namespace
}  // namespace ink

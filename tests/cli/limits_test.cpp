// Numbers far beyond any use, empty values, and what must not be written over: one line and its
// code, before anything is allocated or lost.

#include <sys/stat.h>

#include "tests/cli/inkstone_run.h"
#include "tests/support/golden_folder.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

std::string rows() {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "{\"tokens\": [" + std::to_string(i) + ", 7, 9, 4, 11]}\n";
  return text;
}

std::string prose() {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "the river runs over a stone, number " + std::to_string(i * 37 % 101) + "\n";
  return text;
}

TEST(Limits, FlagsOfPrepare) {
  const Workplace place;
  place.write("rows.jsonl", rows());
  const std::vector<std::string> command = {"data",  "prepare", "--in",         "rows.jsonl",
                                            "--out", "made.h5", "--vocab-size", "96"};
  const std::vector<std::vector<std::string>> bad = {
      {"--workers", "-1"},      {"--workers", "100000"}, {"--eval-fraction", "nan"},
      {"--eval-fraction", "1"}, {"--max-length", "0"},   {"--max-length", "9223372036854775807"},
      {"--seed", "-1"},         {"--seed", "1.5"},       {"--order", "random"}};
  for (const auto& flag : bad) {
    std::vector<std::string> words = command;
    words.insert(words.end(), flag.begin(), flag.end());
    expect_error(place.run(words), 2, {flag[0], flag[1]});
  }
  expect_error(place.run({"data", "prepare", "--in", "rows.jsonl", "--out", "made.h5",
                          "--vocab-size", "-5"}),
               2, {"--vocab-size", "-5"});
  fs::create_directory(place / "folder");
  expect_error(place.run({"data", "prepare", "--in", "rows.jsonl", "--out", "folder",
                          "--vocab-size", "96", "--overwrite"}),
               4, {"folder", "a directory"});
  EXPECT_FALSE(fs::exists(place / "made.h5"));
  std::vector<std::string> counted = command;
  counted.insert(counted.end(), {"--max-length", "1k"});
  expect_done(place.run(counted));
  EXPECT_NE(place.run({"inspect", "made.h5"}).out.find("1000"), std::string::npos);
}

TEST(Limits, FlagsOfInspectAndStats) {
  const Workplace place;
  place.write("rows.jsonl", rows());
  expect_done(place.run({"data", "prepare", "--in", "rows.jsonl", "--out", "made.h5",
                         "--vocab-size", "96", "--max-length", "8"}));
  for (const char* count : {"0", "-1", "many"})
    expect_error(place.run({"data", "inspect", "made.h5", "--n", count}), 2, {"--n", count});
  expect_error(place.run({"data", "inspect", "made.h5", "--split", "test"}), 2, {"train, eval"});
  expect_error(place.run({"data", "inspect", "made.h5", "--unpacked", "--max-length", "0"}), 2,
               {"--max-length"});
  // All that is there, however many are asked for.
  const ChildResult all =
      place.run({"data", "inspect", "made.h5", "--row", "38", "--n", "9223372036854775807"});
  expect_done(all);
  EXPECT_NE(all.out.find("document 39 of train"), std::string::npos);
  const ChildResult whole = place.run({"data", "inspect", "made.h5", "--unpacked", "--max-length",
                                       "9223372036854775807", "--n", "40"});
  expect_done(whole);
  EXPECT_NE(whole.out.find("sample 39 of train"), std::string::npos);
  // 40 documents of five tokens: two samples of at most three each.
  const ChildResult stats =
      place.run({"data", "stats", "made.h5", "--unpacked", "--max-length", "3", "--json"});
  expect_done(stats);
  EXPECT_EQ(nlohmann::json::parse(stats.out).at("sources").at(0).at("samples"), 80);
  expect_error(place.run({"data", "stats", "made.h5", "--max-length", "3"}), 2, {"--unpacked"});
}

TEST(Limits, FlagsOfTheTokenizer) {
  const Workplace place;
  place.write("text.txt", prose());
  const auto make = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"data", "tokenizer", "--in", "text.txt", "--out", "tok"};
    words.insert(words.end(), more.begin(), more.end());
    return place.run(words);
  };
  for (const char* size : {"0", "-1", "259", "1000000000"})
    expect_error(make({"--vocab-size", size}), 2, {"--vocab-size", size});
  for (const char* share : {"nan", "0", "1.5"})
    expect_error(make({"--vocab-size", "300", "--coverage", share}), 2, {"--coverage", share});
  expect_error(make({"--vocab-size", "262"}), 2, {"262", "a larger --vocab-size"});
  expect_error(make({"--vocab-size", "60000"}), 2, {"60000", "a smaller --vocab-size"});
  EXPECT_FALSE(fs::exists(place / "tok"));
  expect_done(make({"--vocab-size", "300"}));
  const std::string model = slurp(place / "tok/tokenizer.model");
  expect_error(make({"--vocab-size", "310"}), 4, {"tok/tokenizer.model", "--overwrite"});
  EXPECT_EQ(slurp(place / "tok/tokenizer.model"), model);
  expect_done(make({"--vocab-size", "310", "--overwrite"}));
  EXPECT_NE(slurp(place / "tok/tokenizer.model"), model);
}

TEST(Limits, FlagsOfGenerate) {
  const Workplace place;
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"generate", "--model", golden_folder("internlm2").string(),
                                      "--ids",    "1 2",     "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return place.run(words);
  };
  expect_error(generate({"--max-new-tokens", "9223372036854775807"}), 2, {"--max-new-tokens"});
  expect_error(generate({"--seed", "-1"}), 2, {"--seed", "-1"});
  expect_error(generate({"--top-k", "1", "--top-k", "2"}), 2, {"--top-k: expected it once"});
  expect_error(generate({"--stop", ""}), 2, {"--stop", "an empty text"});
}

TEST(Limits, NoValueIsEmpty) {
  const Workplace place;
  expect_error(place.run({"train", ""}), 2, {"run: expected a value, got an empty text"});
  expect_error(place.run({"inspect", ""}), 2, {"path"});
  expect_error(place.run({"generate", "--model", "", "--ids", "1"}), 2, {"--model"});
  expect_error(place.run({"data", "prepare", "--in", "", "--out", "x", "--vocab-size", "9"}), 2,
               {"--in"});
  expect_error(place.run({"export", "hf", "--in", "x", "--out", ""}), 2, {"--out"});
}

TEST(Limits, SizesOfARun) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  const auto before = files_below(place.path());
  for (const char* size :
       {"train.global_batch_size=9223372036854775807", "train.accumulation=100000000000",
        "train.micro_batch_size=9000000000000000000", "data.max_length=9223372036854775807",
        "train.steps=9223372036854775807", "model.num_hidden_layers=100000000000",
        "model.vocab_size=9000000000000000000",
        "data.train.0.synthetic.documents=9000000000000000000"}) {
    const std::string text = size;
    expect_error(place.run({"train", "run.yaml", text}), 2,
                 {text.substr(text.find_last_of('.', text.find('=')) + 1, 5), "expected at most",
                  text.substr(text.find('=') + 1)});
  }
  expect_error(place.run({"train", "run.yaml", "train.micro_batch_size=1000000",
                          "model.max_position_embeddings=1000000", "data.max_length=1000000"}),
               2, {"train.micro_batch_size", "tokens in a micro-batch"});
  expect_error(place.run({"train", "run.yaml", "train.steps=null", "train.epochs=1e300"}), 2,
               {"train.epochs", "1e+300"});
  EXPECT_EQ(files_below(place.path()), before);
}

// More than the machine has: said at once, not by the system in the middle.
TEST(Limits, ModelBeyondTheMemoryOfTheMachine) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  expect_error(place.run({"train", "run.yaml", "model.hidden_size=1000000",
                          "model.intermediate_size=1000000"}),
               7, {"memory of the device", "weights, gradients and optimizer"});
  EXPECT_FALSE(fs::exists(place / "runs"));
}

std::string masked_rows(int count, bool masked) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += std::string("{\"input_ids\": [5, 6, 7, 8], \"labels\": ") +
            (masked ? "[-100, -100, -100, -100]}\n" : "[5, 6, 7, 8]}\n");
  return text;
}

TEST(Limits, SomethingMustBeTrainedOn) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  place.write("masked.jsonl", masked_rows(40, true));
  place.write("good.jsonl", masked_rows(40, false));
  const std::string all = "data.train=[{path: masked.jsonl}]";
  for (const char* flag : {"--dry-run", "--quiet"})
    expect_error(place.run({"train", "run.yaml", "--out", "none", all, flag}), 3,
                 {"tokens to train on, got none among 160", "data inspect"});
  const ChildResult some = place.run({"train", "run.yaml", "--out", "some",
                                      "data.train=[{path: masked.jsonl}, {path: good.jsonl}]"});
  expect_done(some);
  const auto warnings = event_rows(place / "some", "warning");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].at("code"), "masked");
}

TEST(Limits, FilesThatInspectDoesNotKnow) {
  const Workplace place;
  place.write("notes.txt", "no weights in here");
  expect_error(place.run({"inspect", "notes.txt"}), 3, {"notes.txt", "read as a safetensors file"});
}

// A text file is one document, and that one is held out.
TEST(Limits, OneDocumentCannotBeHeldOut) {
  const Workplace place;
  place.write("text.txt", prose());
  expect_done(
      place.run({"data", "tokenizer", "--in", "text.txt", "--out", "tok", "--vocab-size", "300"}));
  place.write_run("train: {steps: 2}");
  const std::vector<std::string> command = {"train",
                                            "run.yaml",
                                            "--quiet",
                                            "model.vocab_size=300",
                                            "model.tokenizer=tok",
                                            "data.train=[{path: text.txt}]",
                                            "data.eval={fraction: 0.1}"};
  expect_error(place.run(command), 3, {"1 documents", "1 are held out", "format: lines"});
  std::vector<std::string> lines = command;
  lines.emplace_back("data.train.0.format=lines");
  expect_done(place.run(lines));
}

// A limit on the size of files stands for a full disk.
TEST(Limits, NoHalfConfiguration) {
  const Workplace place;
  ChildOptions options = place.options();
  options.file_limit = 64;
  expect_error(place.run({"config", "copy", "runs/pretrain_internlm2_tiny", "mine.yaml"}, options),
               4, {"mine.yaml"});
  EXPECT_FALSE(fs::exists(place / "mine.yaml"));
}

TEST(Limits, ResumeOrOverwrite) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  expect_error(place.run({"train", "run.yaml", "--resume", "--overwrite"}), 2,
               {"--overwrite", "--resume"});
}

TEST(Limits, RunDirectoryThatEverybodyMayWrite) {
  const Workplace place;
  place.write_run("train: {steps: 2}");
  fs::create_directory(place / "open");
  fs::permissions(place / "open", fs::perms::all);
  expect_error(place.run({"train", "run.yaml", "--out", "open"}), 4, {"open", "0777", "chmod o-w"});
  EXPECT_TRUE(fs::is_empty(place / "open"));
  // One that the run makes itself is closed whatever the umask.
  const mode_t before = umask(0);
  const ChildResult result = place.run({"train", "run.yaml", "--out", "mine"});
  umask(before);
  expect_done(result);
  EXPECT_EQ(fs::status(place / "mine").permissions() & fs::perms::others_write, fs::perms::none);
  EXPECT_EQ(fs::status(place / "mine/step-2").permissions(), fs::perms::owner_all);
}

}  // namespace
}  // namespace ink

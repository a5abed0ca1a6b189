// Tokenizers, texts and token stores that are refused: code 3, nothing published.

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// Rows of token ids become a store without a tokenizer.
class DataError : public testing::Test {
 protected:
  void SetUp() override {
    std::string rows;
    for (int i = 0; i < 40; ++i) {
      rows += "{\"tokens\": [";
      for (int t = 0; t < 50; ++t)
        rows += (t == 0 ? "" : ", ") + std::to_string((i * 7 + t * 3) % 90);
      rows += "]}\n";
    }
    place_.write("rows.jsonl", rows);
  }
  ChildResult prepare(const std::string& in, const std::string& out) const {
    return place_.run(
        {"data", "prepare", "--in", in, "--out", out, "--vocab-size", "96", "--max-length", "32"});
  }

  Workplace place_;
};

TEST_F(DataError, RowsThatAreNoTokens) {
  const std::string good = slurp(place_ / "rows.jsonl");
  const std::map<std::string, std::string> bad = {
      {"{\"tokens\": [1, 2, 96]}", "96"}, {"{\"tokens\": [1, -96]}", "96"},
      {"{\"tokens\": [1, 2.5]}", "2.5"},  {"{\"tokens\": [1, 2", ":41"},
      {"{\"tekens\": [1, 2]}", "tekens"}, {"{\"tokens\": [1], \"tokens\": [2]}", ":41"}};
  for (const auto& [row, word] : bad) {
    place_.write("bad.jsonl", good + row + "\n");
    expect_error(prepare("bad.jsonl", "made.h5"), 3, {"bad.jsonl:41", word});
    EXPECT_FALSE(fs::exists(place_ / "made.h5"));
  }
}

TEST_F(DataError, InputsThatAreAbsentOrOfAnotherKind) {
  expect_error(prepare("absent.jsonl", "made.h5"), 3, {"absent.jsonl"});
  place_.write("page.jsonl", "<!DOCTYPE html><html></html>\n");
  expect_error(prepare("page.jsonl", "made.h5"), 3, {"page.jsonl", "HTML"});
  place_.write("pointer.jsonl",
               "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  expect_error(prepare("pointer.jsonl", "made.h5"), 3, {"pointer.jsonl", "LFS"});
  place_.write("text.txt", "some text\n");
  expect_error(place_.run({"data", "prepare", "--in", "text.txt", "--out", "made.h5"}), 2,
               {"--tokenizer"});
  expect_error(place_.run({"data", "prepare", "--in", "text.txt", "--out", "made.h5", "--tokenizer",
                           "absent.model"}),
               3, {"absent.model"});
  place_.write("bad.model", "\x0a\x05hello not a model");
  expect_error(place_.run({"data", "prepare", "--in", "text.txt", "--out", "made.h5", "--tokenizer",
                           "bad.model"}),
               3, {"bad.model"});
  EXPECT_FALSE(fs::exists(place_ / "made.h5"));
}

TEST_F(DataError, FlippedBitInTheStore) {
  ASSERT_EQ(prepare("rows.jsonl", "good.h5").code, 0);
  expect_done(place_.run({"inspect", "good.h5", "--verify"}));
  place_.write_run("train: {steps: 2}");
  const std::string bytes = slurp(place_ / "good.h5");
  const std::string tokens("\x00\x00\x03\x00\x06\x00\x09\x00", 8);  // first ids of the first row
  const size_t at = bytes.find(tokens);
  ASSERT_NE(at, std::string::npos);
  std::string flipped = bytes;
  flipped[at + 2] ^= 4;
  place_.write("bad.h5", flipped);
  expect_error(place_.run({"inspect", "bad.h5", "--verify"}), 3, {"bad.h5"});
  expect_error(place_.run({"train", "run.yaml", "data.train=[{path: bad.h5}]", "--quiet"}), 3,
               {"bad.h5"});
  place_.write("short.h5", bytes.substr(0, bytes.size() / 2));
  expect_error(place_.run({"inspect", "short.h5"}), 3, {"short.h5"});
  expect_error(place_.run({"data", "stats", "short.h5"}), 3, {"short.h5"});
  place_.write("empty.h5", "");
  expect_error(place_.run({"inspect", "empty.h5"}), 3, {"empty.h5"});
}

TEST_F(DataError, StoreAgainstModel) {
  ASSERT_EQ(prepare("rows.jsonl", "good.h5").code, 0);
  place_.write_run("train: {steps: 2}");
  expect_error(place_.run({"train", "run.yaml", "data.train=[{path: good.h5}]",
                           "model.vocab_size=50", "--dry-run"}),
               3, {"good.h5", "50"});
  expect_error(place_.run({"data", "inspect", "good.h5", "--row", "1000"}), 2, {"--row", "1000"});
}

TEST_F(DataError, StoresAreNotOverwritten) {
  ASSERT_EQ(prepare("rows.jsonl", "good.h5").code, 0);
  const std::string bytes = slurp(place_ / "good.h5");
  expect_error(prepare("rows.jsonl", "good.h5"), 4, {"good.h5", "--overwrite"});
  EXPECT_EQ(slurp(place_ / "good.h5"), bytes);
}

TEST_F(DataError, FullDisk) {
  ChildOptions options = place_.options();
  options.file_limit = 2048;
  const auto before = files_below(place_.path());
  const ChildResult result = place_.run({"data", "prepare", "--in", "rows.jsonl", "--out",
                                         "made.h5", "--vocab-size", "96", "--max-length", "32"},
                                        options);
  expect_error(result, 4);
  EXPECT_EQ(files_below(place_.path()), before);
}

}  // namespace
}  // namespace ink

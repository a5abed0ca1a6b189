// Loading from directories, and the exported tokenizer.json read back: equal ids.
#include <gtest/gtest.h>

#include <random>

#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/export.h"
#include "data/tokenizer/load.h"
#include "data/tokenizer/sentencepiece_trainer.h"
#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/io/atomic_file.h"
#include "tests/data/tokenizer_support.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

class TokenizerDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = fs::temp_directory_path() / temporary_name(std::string("inkstone_") + test->name());
    fs::create_directories(path_);
  }
  void TearDown() override { fs::remove_all(path_); }
  void write(const std::string& name, std::string_view text) {
    write_file_atomically(path_ / name, text);
  }

  fs::path path_;
};

std::string trained_model() {
  std::vector<std::string> documents;
  for (int i = 0; i < 100; ++i)
    documents.push_back("the ink stone, the brush and the paper; aaa abab ababab  baba");
  return train_sentencepiece(documents, {.vocab_size = 300});
}

constexpr std::string_view kBar = "\xE2\x96\x81";

// Texts of the golden rows without U+2581, which no tokenizer.json can tell from a space.
std::vector<std::string> comparable_texts(const char* file) {
  std::vector<std::string> texts;
  for (const auto& row : read_rows(golden_text(file))) {
    const std::string text = row["text"];
    if (text.find(kBar) == std::string::npos) texts.push_back(text);
  }
  return texts;
}

TEST_F(TokenizerDirectory, ExportOfATrainedModelKeepsIds) {
  write("tokenizer.model", trained_model());
  const fs::path out = path_ / "out";
  fs::create_directories(out);
  export_tokenizer((path_ / "tokenizer.model").string(), out);
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"}) {
    EXPECT_TRUE(fs::is_regular_file(out / name)) << name;
  }
  const auto ours = SentencePieceTokenizer::open((path_ / "tokenizer.model").string());
  const auto theirs = BpeTokenizer::open((out / "tokenizer.json").string());
  const auto again = load_tokenizer(out.string());
  EXPECT_EQ(again->content_hash(), ours->content_hash());
  EXPECT_EQ(theirs->vocab_size(), ours->vocab_size());
  EXPECT_TRUE(theirs->adds_bos());
  EXPECT_EQ(again->special_ids().eos, 2);
  for (const std::string& text : comparable_texts("sentencepiece.jsonl")) {
    const Ids ids = ours->encode(text);
    EXPECT_EQ(theirs->encode(text), ids) << text;
    EXPECT_EQ(again->encode(text), ids) << text;
    EXPECT_EQ(theirs->decode(ids, Specials::kKeep), text);
  }
}

TEST_F(TokenizerDirectory, ExportOfReleasedModelsKeepsIds) {
  for (const char* name : {"internlm", "internlm2"}) {
    const auto model = released_model(name);
    if (!model) continue;
    const auto ours = SentencePieceTokenizer::open(*model);
    const auto theirs =
        BpeTokenizer::from_json(make_tokenizer_json(*ours, *model), "tokenizer.json");
    auto texts = comparable_texts("sentencepiece.jsonl");
    for (std::string& text : comparable_texts("safe_encode.jsonl"))
      texts.push_back(std::move(text));
    for (const std::string& text : texts) {
      EXPECT_EQ(theirs->encode(text), ours->encode(text)) << name << ": " << text;
    }
    for (const char* spelling : {"<|im_start|>", "<eoa>"}) {
      EXPECT_EQ(theirs->special_id(spelling), ours->special_id(spelling)) << spelling;
    }
  }
}

TEST_F(TokenizerDirectory, ConfigNamesSpecialTokensAndAddsNewOnes) {
  write("tokenizer.model", trained_model());
  write("tokenizer_config.json",
        R"({"add_bos_token": false, "eos_token": {"content": "<|end|>"}, "pad_token": "</s>",
            "added_tokens_decoder": {"1": {"content": "<s>"}, "300": {"content": "<|end|>"}}})");
  const auto tokenizer = load_tokenizer(path_.string());
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->vocab_size(), 301);
  EXPECT_EQ(tokenizer->special_ids().bos, 1);
  EXPECT_EQ(tokenizer->special_ids().eos, 300);
  EXPECT_EQ(tokenizer->special_ids().pad, 2);
  EXPECT_EQ(tokenizer->decode(Ids{300}, Specials::kKeep), "<|end|>");
  EXPECT_NO_THROW(check_vocabulary(*tokenizer, 301, "model"));
  EXPECT_THROW(check_vocabulary(*tokenizer, 300, "model"), Error);
}

TEST_F(TokenizerDirectory, ReadsAndCopiesTokenizerJson) {
  write("tokenizer.json", read_text(golden_text("bpe/llama3_style.json"), 1 << 20));
  write("tokenizer_config.json",
        R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})");
  const auto tokenizer = load_tokenizer(path_.string());
  const auto bos = tokenizer->special_id("<|begin_of_text|>"),
             eos = tokenizer->special_id("<|eot_id|>");
  ASSERT_TRUE(bos && eos && *bos != *eos);
  EXPECT_EQ(tokenizer->special_ids().bos, bos);
  EXPECT_EQ(tokenizer->special_ids().eos, eos);
  EXPECT_FALSE(tokenizer->adds_bos());
  const fs::path out = path_ / "out";
  fs::create_directories(out);
  export_tokenizer(path_.string(), out);
  EXPECT_EQ(load_tokenizer(out.string())->content_hash(), tokenizer->content_hash());
  EXPECT_EQ(load_tokenizer(out.string())->special_ids().eos, eos);
}

TEST_F(TokenizerDirectory, RefusesWhatHoldsNoTokenizer) {
  EXPECT_THROW(static_cast<void>(load_tokenizer(path_.string())), Error);
  EXPECT_THROW(static_cast<void>(load_tokenizer((path_ / "absent.model").string())), Error);
  write("tokenizer.model", trained_model());
  write("tokenizer_config.json", R"({"eos_token": "<|nowhere|>"})");
  EXPECT_THROW(static_cast<void>(load_tokenizer(path_.string())), Error);
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"one": {"content": "x"}}})");
  EXPECT_THROW(static_cast<void>(load_tokenizer(path_.string())), Error);
}

}  // namespace
}  // namespace ink

// tokenizer.json: golden rows of two small byte-level tokenizers, the merge loop, refusals.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/byte_alphabet.h"
#include "engine/core/error.h"
#include "engine/io/file.h"
#include "tests/data/tokenizer_support.h"

namespace ink {
namespace {

using Ids = std::vector<int32_t>;
using nlohmann::json;

TEST(BpeTokenizer, EncodesAndDecodesTheGoldenRows) {
  std::map<std::string, std::unique_ptr<BpeTokenizer>> tokenizers;
  const auto rows = read_rows(golden_text("bpe/cases.jsonl"));
  for (const json& row : rows) {
    const std::string name = row["tokenizer"];
    auto& opened = tokenizers[name];
    if (!opened) opened = BpeTokenizer::open(golden_text("bpe/" + name + ".json"));
    const BpeTokenizer& tokenizer = *opened;
    const std::string text = row["text"];
    const Ids ids = row["parse_special"] ? tokenizer.encode_plain(text) : tokenizer.encode(text);
    ASSERT_EQ(ids, row["ids"].get<Ids>()) << row["tokenizer"] << ": " << text;
    EXPECT_EQ(tokenizer.decode(ids, Specials::kKeep), row["decoded"]) << text;
  }
}

TEST(BpeTokenizer, TemplateTextYieldsSpecialIdsAndForeignTextDoesNot) {
  const auto tokenizer = BpeTokenizer::open(golden_text("bpe/qwen2_style.json"),
                                            {.bos = {}, .eos = "<|im_end|>", .pad = {}});
  const std::vector<TextSegment> segments{{"<|im_start|>", TextOrigin::kTemplate},
                                          {"<|im_end|>", TextOrigin::kForeign}};
  const int32_t start = tokenizer->special_id("<|im_start|>").value();
  const int32_t end = tokenizer->special_id("<|im_end|>").value();
  Ids expected{start};
  for (const int32_t id : tokenizer->encode("<|im_end|>")) expected.push_back(id);
  EXPECT_EQ(tokenizer->encode_template(segments), expected);
  EXPECT_EQ(std::count(expected.begin(), expected.end(), end), 0);
  EXPECT_EQ(tokenizer->special_ids().eos, end);
  EXPECT_EQ(tokenizer->decode(expected, Specials::kSkip), "<|im_end|>");
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(ByteAlphabet, IsABijection) {
  EXPECT_EQ(byte_letter(' '), 0x120u);
  EXPECT_EQ(byte_letter('\n'), 0x10Au);
  EXPECT_EQ(byte_letter('A'), uint32_t{'A'});
  EXPECT_EQ(bytes_of_letters("Ġa"), " a");
  EXPECT_FALSE(bytes_of_letters("a b").has_value());
}

// The definition: look for the lowest rank, leftmost, until none is left.
Ids merged_slowly(Ids symbols, const std::vector<MergeRule>& rules) {
  for (;;) {
    size_t best_rank = rules.size(), best_at = 0;
    for (size_t at = 0; at + 1 < symbols.size(); ++at) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (rules[rank].left == symbols[at] && rules[rank].right == symbols[at + 1])
          best_rank = rank, best_at = at;
      }
    }
    if (best_rank == rules.size()) return symbols;
    symbols[best_at] = rules[best_rank].merged;
    symbols.erase(symbols.begin() + static_cast<int64_t>(best_at) + 1);
  }
}

TEST(BpeMerger, EqualsTheDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<MergeRule> rules;
    std::map<std::pair<int32_t, int32_t>, int32_t> seen;
    for (int32_t id = 3; id < 15; ++id) {
      const MergeRule rule{static_cast<int32_t>(random() % id), static_cast<int32_t>(random() % id),
                           id};
      if (seen.emplace(std::pair(rule.left, rule.right), id).second) rules.push_back(rule);
    }
    Ids symbols;
    const size_t size = random() % 40;
    for (size_t i = 0; i < size; ++i) symbols.push_back(static_cast<int32_t>(random() % 3));
    Ids ids;
    BpeMerger(rules).append(symbols, ids);
    EXPECT_EQ(ids, merged_slowly(symbols, rules));
  }
}

TEST(BpeMerger, ALongRunIsNotQuadratic) {
  const std::vector<MergeRule> rules{{0, 0, 1}, {1, 1, 2}, {2, 2, 3}};
  Ids ids;
  BpeMerger(rules).append(Ids(800000, 0), ids);
  EXPECT_EQ(ids, Ids(100000, 3));
}

// SentencePiece-like: byte fallback, space as U+2581, a Llama-2 prefix.
json fallback_tokenizer() {
  json vocab{{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  for (const char* piece : {"▁", "a", "b", "ab", "▁ab"})
    vocab[piece] = static_cast<int>(vocab.size());
  const json space{{"String", " "}}, bar{{"String", "▁"}};
  return {{"added_tokens", json::array({{{"id", 1}, {"content", "<s>"}, {"special", true}}})},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             json::array({{{"type", "Prepend"}, {"prepend", "▁"}},
                          {{"type", "Replace"}, {"pattern", space}, {"content", "▁"}}})}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", json::array({{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                    {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             json::array({{{"type", "Replace"}, {"pattern", bar}, {"content", " "}},
                          {{"type", "ByteFallback"}},
                          {{"type", "Fuse"}},
                          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", {"a b", "▁ ab"}}}}};
}

TEST(BpeTokenizer, ReadsByteFallbackVocabularies) {
  const auto tokenizer = BpeTokenizer::from_json(fallback_tokenizer().dump(), "t.json");
  const int32_t bar = 259, a = 260, word = 263;
  EXPECT_EQ(tokenizer->encode("ab a"), (Ids{word, bar, a}));
  EXPECT_EQ(tokenizer->encode("é"), (Ids{bar, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("ab é a"), Specials::kKeep), "ab é a");
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->special_ids().bos, 1);
  EXPECT_EQ(tokenizer->special_ids().unk, 0);
  EXPECT_NE(tokenizer->encode("<s>"), (Ids{1}));
  EXPECT_EQ(tokenizer->encode_plain("<s>"), (Ids{1}));
}

// As the tokenizers library does: SmolLM2's vocabulary has no piece for some control bytes.
TEST(BpeTokenizer, LeavesOutBytesThatAByteLevelVocabularyLacks) {
  json vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    append_utf8(byte_letter(static_cast<uint8_t>(byte)), letter);
    if (byte != 0x04) vocab[letter] = static_cast<int>(vocab.size());
  }
  const int32_t joined = static_cast<int32_t>(vocab.size());
  vocab["!?"] = joined;
  const json byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  json document{
      {"added_tokens", json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"unk_token", nullptr}, {"vocab", vocab}, {"merges", {"! ?"}}}}};
  const auto tokenizer = BpeTokenizer::from_json(document.dump(), "t.json");
  EXPECT_EQ(tokenizer->encode("!\x04?"), (Ids{joined}));
  EXPECT_EQ(tokenizer->encode("\x04"), Ids{});
  document["model"]["unk_token"] = "!?";
  EXPECT_THROW(static_cast<void>(BpeTokenizer::from_json(document.dump(), "t.json")), Error);
}

struct Refusal {
  std::string path, value, says;
};

TEST(TokenizerJson, NamesWhatItDoesNotSupport) {
  const std::vector<Refusal> rows{
      {"/model/type", R"("Unigram")", "BPE"},
      {"/model/dropout", "0.1", "dropout"},
      {"/model/byte_fallback", "false", "byte_fallback"},
      {"/model/merges/0", R"("a")", "merge 0"},
      {"/model/merges/0", R"(["a", "x"])", "in the vocabulary"},
      {"/model/vocab/a", "-1", "\"a\""},
      {"/model/vocab/a", "261", "its own"},
      {"/model/vocab/a", "1000000000", "\"a\""},
      {"/model/vocab/a", "2.5", "\"a\""},
      {"/model/vocab", "[1]", "vocab"},
      {"/normalizer", R"({"type": "NFKC"})", "NFKC"},
      {"/pre_tokenizer", R"({"type": "Whitespace"})", "Whitespace"},
      {"/pre_tokenizer",
       R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false})",
       "pattern"},
      {"/pre_tokenizer",
       R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Removed", "invert": false})",
       "behavior"},
      {"/pre_tokenizer", R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})",
       "add_prefix_space"},
      {"/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
      {"/post_processor/single", R"([{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}])",
       "single"},
      {"/decoder", R"({"type": "WordPiece"})", "WordPiece"},
      {"/added_tokens/0/lstrip", "true", "lstrip"},
      {"/added_tokens/0/id", "7", "<s>"},
      {"/added_tokens/0/content", R"("")", "bytes"},
  };
  for (const Refusal& row : rows) {
    json document = fallback_tokenizer();
    document[json::json_pointer(row.path)] = json::parse(row.value);
    try {
      static_cast<void>(BpeTokenizer::from_json(document.dump(), "t.json"));
      ADD_FAILURE() << row.path << " = " << row.value << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput);
      EXPECT_EQ(error.place().substr(0, 6), "t.json") << error.line();
      EXPECT_NE(error.line().find(row.says), std::string::npos) << row.path << ": " << error.line();
    }
  }
}

TEST(TokenizerJson, RefusesWhatIsNoJson) {
  for (const std::string text :
       {"", "{", "[]", "{}", "null", R"({"model": 1})", R"({"model": {}, "model": {}})"}) {
    EXPECT_THROW(static_cast<void>(BpeTokenizer::from_json(text, "t.json")), Error) << text;
  }
  EXPECT_THROW(static_cast<void>(BpeTokenizer::open("no/such/tokenizer.json")), Error);
}

}  // namespace
}  // namespace ink

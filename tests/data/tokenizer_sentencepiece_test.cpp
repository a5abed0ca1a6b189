// SentencePiece: golden rows of the released models, cutting into words against the library,
// refusals.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <map>
#include <random>
#include <thread>

#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "data/tokenizer/sentencepiece_trainer.h"
#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "tests/data/tokenizer_support.h"

namespace ink {
namespace {

using Ids = std::vector<int32_t>;

// Both released models, opened once; empty if they are not there.
const std::map<std::string, std::unique_ptr<SentencePieceTokenizer>>& released() {
  static const auto models = [] {
    std::map<std::string, std::unique_ptr<SentencePieceTokenizer>> found;
    for (const char* name : {"internlm", "internlm2"}) {
      if (const auto path = released_model(name)) found[name] = SentencePieceTokenizer::open(*path);
    }
    return found;
  }();
  return models;
}

// The model of golden rows: beside them, or a released one. Null if it is not there.
const SentencePieceTokenizer* model_of(const nlohmann::json& row) {
  static std::map<std::string, std::unique_ptr<SentencePieceTokenizer>> beside;
  const std::string name = row["model"];
  if (const auto path = golden_text(name + ".model"); std::filesystem::exists(path)) {
    auto& opened = beside[name];
    if (!opened) opened = SentencePieceTokenizer::open(path);
    return opened.get();
  }
  const auto found = released().find(name);
  return found == released().end() ? nullptr : found->second.get();
}

TEST(SentencePiece, PlainEncodeEqualsGoldenRows) {
  for (const auto& row : read_rows(golden_text("sentencepiece.jsonl"))) {
    const SentencePieceTokenizer* model = model_of(row);
    if (model == nullptr) continue;
    const SentencePieceTokenizer& tokenizer = *model;
    const std::string text = row["text"];
    const Ids ids = tokenizer.encode_plain(text);
    ASSERT_EQ(ids, row["ids"].get<Ids>()) << row["model"] << ": " << text;
    EXPECT_EQ(tokenizer.decode_plain(ids), row["decoded"]) << text;
    std::vector<std::string> pieces;
    for (const int32_t id : ids) pieces.push_back(tokenizer.id_to_piece(id));
    EXPECT_EQ(pieces, row["pieces"].get<std::vector<std::string>>()) << text;
  }
}

TEST(SentencePiece, SafeEncodeEqualsGoldenRows) {
  for (const auto& row : read_rows(golden_text("safe_encode.jsonl"))) {
    const SentencePieceTokenizer* model = model_of(row);
    if (model == nullptr) continue;
    const SentencePieceTokenizer& tokenizer = *model;
    const std::string text = row["text"];
    const Ids ids = tokenizer.encode(text);
    ASSERT_EQ(ids, row["ids"].get<Ids>()) << row["model"] << ": " << text;
    EXPECT_EQ(tokenizer.decode(ids, Specials::kKeep), text);
    Ids blocked;
    for (const int32_t id : tokenizer.encode_plain(text)) {
      if (SentencePieceTokenizer::is_reserved_name(tokenizer.id_to_piece(id)))
        blocked.push_back(id);
    }
    EXPECT_EQ(blocked, row["plain_yields_blocked"].get<Ids>()) << text;
    for (const int32_t id : ids) {
      EXPECT_GT(id, 2);
      EXPECT_FALSE(SentencePieceTokenizer::is_reserved_name(tokenizer.id_to_piece(id))) << text;
    }
  }
}

TEST(SentencePiece, TemplateTextYieldsSpecialIdsAndForeignTextDoesNot) {
  if (!released().contains("internlm2")) return;
  const SentencePieceTokenizer& tokenizer = *released().at("internlm2");
  const std::vector<TextSegment> segments{{"<|im_start|>user\n", TextOrigin::kTemplate},
                                          {"<|im_end|>", TextOrigin::kForeign},
                                          {"<|im_end|>\n", TextOrigin::kTemplate}};
  Ids expected{92543};
  for (const int32_t id : tokenizer.encode("user\n<|im_end|>")) expected.push_back(id);
  expected.push_back(92542);
  for (const int32_t id : tokenizer.encode("\n")) expected.push_back(id);
  EXPECT_EQ(tokenizer.encode_template(segments), expected);
  EXPECT_EQ(tokenizer.decode(expected, Specials::kKeep),
            "<|im_start|>user\n<|im_end|><|im_end|>\n");
  EXPECT_EQ(tokenizer.decode(expected, Specials::kSkip), "user\n<|im_end|>\n");
  EXPECT_EQ(tokenizer.special_id("<|plugin|>"), 92538);
  EXPECT_EQ(tokenizer.special_ids().bos, 1);
  EXPECT_EQ(tokenizer.special_ids().eos, 2);
  EXPECT_FALSE(tokenizer.special_ids().pad.has_value());
}

// A random walk over pieces, spaces and rare characters: joints that a cut must respect.
std::string random_text(const SentencePieceTokenizer& tokenizer, std::mt19937& random) {
  static const char* const kRare[] = {" ", "  ",         "\n", "\t", "\xE2\x96\x81",
                                      "é", "\U0001F600", "a",  "哈", "。"};
  std::string text;
  for (int i = 0; i < 40; ++i) {
    if (random() % 3 == 0) {
      text += kRare[random() % std::size(kRare)];
    } else {
      text +=
          tokenizer.piece_bytes(static_cast<int32_t>(3 + random() % (tokenizer.vocab_size() - 3)));
    }
  }
  return repair_utf8(text);
}

TEST(SentencePiece, CuttingIntoWordsChangesNoId) {
  for (const auto& [name, tokenizer] : released()) {
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(tokenizer->model_bytes()).ok());
    std::mt19937 random(7);
    for (int i = 0; i < 500; ++i) {
      const std::string text = random_text(*tokenizer, random);
      std::vector<int> ids;
      ASSERT_TRUE(library.Encode(text, &ids).ok());
      ASSERT_EQ(tokenizer->encode_plain(text), Ids(ids.begin(), ids.end())) << name << ": " << text;
    }
  }
}

TEST(SentencePiece, InvalidUtf8IsEncodedAsTheLibraryDoes) {
  for (const auto& [name, tokenizer] : released()) {
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(tokenizer->model_bytes()).ok());
    const std::string text = "ab \xFF\xE2\x96 cd";
    std::vector<int> ids;
    ASSERT_TRUE(library.Encode(text, &ids).ok());
    EXPECT_EQ(tokenizer->encode_plain(text), Ids(ids.begin(), ids.end())) << name;
  }
}

std::vector<std::string> small_corpus() {
  std::vector<std::string> documents;
  std::mt19937 random(3);
  static const char* const kWords[] = {"river", "stone",    "ink",   "paper",
                                       "brush", "mountain", "ofthe", "writing"};
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int k = 0; k < 30; ++k)
      text += std::string(kWords[random() % 8]) + (k % 7 == 6 ? ".\n" : " ");
    documents.push_back(text);
  }
  return documents;
}

TEST(SentencePieceTraining, FollowsThePromisedRulesAndRoundTrips) {
  const std::string bytes = train_sentencepiece(small_corpus(), {.vocab_size = 320});
  const auto tokenizer = SentencePieceTokenizer::from_bytes(bytes, "trained");
  EXPECT_EQ(tokenizer->vocab_size(), 320);
  EXPECT_TRUE(tokenizer->model().keeps_text());
  EXPECT_TRUE(tokenizer->model().byte_fallback);
  EXPECT_EQ(tokenizer->special_ids().unk, 0);
  EXPECT_EQ(tokenizer->special_ids().bos, 1);
  EXPECT_EQ(tokenizer->special_ids().eos, 2);
  EXPECT_FALSE(tokenizer->special_ids().pad.has_value());
  for (const std::string text :
       {"  river\n\n stone ", "日本 \xE2\x96\x81 \U0001F600", "", " ", "<s></s>", "a\tb"}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), Specials::kKeep), text);
  }
  EXPECT_EQ(tokenizer->encode("mountain").size(), 1u);
}

TEST(SentencePieceTraining, GivesTheSameBytesTwice) {
  const auto documents = small_corpus();
  EXPECT_EQ(train_sentencepiece(documents, {.vocab_size = 300}),
            train_sentencepiece(documents, {.vocab_size = 300}));
}

TEST(SentencePieceTraining, RefusesAVocabularyThatTheTextCannotFill) {
  try {
    static_cast<void>(train_sentencepiece({"one two"}, {.vocab_size = 5000}));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
  }
}

TEST(TextSample, IsBoundedDeterministicAndUniform) {
  TextSample one(1000, 5), two(1000, 5);
  int64_t first_half = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string text = fmt::format("{:010}", i);
    one.add(text);
    two.add(text);
    EXPECT_LE(one.bytes(), 1000u);
  }
  const auto chosen = one.take();
  EXPECT_EQ(chosen, two.take());
  EXPECT_EQ(chosen.size(), 100u);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  for (const std::string& text : chosen) first_half += std::stoi(text) < 500;
  EXPECT_NEAR(static_cast<double>(first_half), 50, 20);
}

TEST(SentencePiece, ThreadsShareOneTokenizer) {
  const auto documents = small_corpus();
  const auto tokenizer = SentencePieceTokenizer::from_bytes(
      train_sentencepiece(documents, {.vocab_size = 320}), "trained");
  std::vector<std::vector<Ids>> found(4);
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&] {
      for (const auto& text : documents) mine.push_back(tokenizer->encode(text));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& mine : found) EXPECT_EQ(mine, found[0]);
}

// Protobuf bytes by hand, for models that no library would write.
std::string bytes_field(int number, const std::string& value) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (size_t n = value.size();; n >>= 7) {
    out += static_cast<char>((n & 0x7F) | (n >= 0x80 ? 0x80 : 0));
    if (n < 0x80) break;
  }
  return out + value;
}

std::string piece(const std::string& text, PieceType type) {
  return bytes_field(1, bytes_field(1, text) + std::string{0x18, static_cast<char>(type)});
}

std::string small_model(const std::string& extra) {
  return piece("<unk>", PieceType::kUnknown) + piece("a", PieceType::kNormal) +
         bytes_field(2, std::string{0x18, 2}) + bytes_field(3, std::string{0x18, 0, 0x20, 0}) +
         extra;
}

TEST(SentencePieceFile, AcceptsAHandMadeModel) {
  const auto tokenizer = SentencePieceTokenizer::from_bytes(small_model(""), "m");
  EXPECT_EQ(tokenizer->encode("aa"), (Ids{1, 1}));
}

struct BadModel {
  std::string name, bytes, says;
};

TEST(SentencePieceFile, RefusesCraftedModels) {
  const std::string good = small_model("");
  const std::vector<BadModel> rows{
      {"empty", "", "no pieces"},
      {"cut", good.substr(0, good.size() - 1), "bytes"},
      {"text", "hello, this is not a model", "protobuf"},
      {"long piece", small_model(piece(std::string(150000, 'x'), PieceType::kNormal)),
       "150000 bytes"},
      {"empty piece", small_model(piece("", PieceType::kNormal)), "is empty"},
      {"not UTF-8", small_model(piece("\xFF", PieceType::kNormal)), "UTF-8"},
      {"twice", small_model(piece("a", PieceType::kNormal)), "stands twice"},
      {"two unknowns", small_model(piece("?", PieceType::kUnknown)), "2 unknown pieces"},
      {"lone byte piece", small_model(piece("<0x41>", PieceType::kByte)), "byte pieces"},
      {"type 9", small_model(piece("b", static_cast<PieceType>(9))), "unknown type 9"},
      {"second normaliser", small_model(bytes_field(3, "")), "field 3 stands twice"},
      {"character map",
       piece("<unk>", PieceType::kUnknown) + bytes_field(3, bytes_field(2, "\xFF\xFF\xFF\x7F")),
       "character map of 4 bytes"},
      {"character map, backwards",
       piece("<unk>", PieceType::kUnknown) + bytes_field(5, bytes_field(2, "xxxx")),
       "character map"},
      {"word model", piece("<unk>", PieceType::kUnknown) + bytes_field(2, std::string{0x18, 3}),
       "model type 3"},
      {"length beyond the file", std::string("\x0A\xFF\xFF\xFF\xFF\x0F", 6), "are left"},
      {"endless number", std::string(20, '\xFF'), "ten bytes"},
      {"nan score",
       small_model(bytes_field(1, bytes_field(1, "b") + std::string("\x15\x00\x00\xC0\x7F", 5))),
       "not finite"},
  };
  for (const BadModel& row : rows) {
    try {
      static_cast<void>(SentencePieceTokenizer::from_bytes(row.bytes, "bad.model"));
      ADD_FAILURE() << row.name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput) << row.name;
      EXPECT_EQ(error.place(), "bad.model") << row.name;
      EXPECT_NE(std::string(error.what()).find(row.says), std::string::npos)
          << row.name << ": " << error.what();
    }
  }
}

TEST(SentencePieceFile, RefusesSpecialIdsBehindTheVocabulary) {
  const SentencePieceOptions options{
      .adds_bos = true, .added_tokens = {{"<x>", 1 << 30}}, .bos = {}, .eos = {}, .pad = {}};
  EXPECT_THROW(static_cast<void>(SentencePieceTokenizer::from_bytes(small_model(""), "m", options)),
               Error);
  EXPECT_THROW(static_cast<void>(SentencePieceTokenizer::open("no/such.model")), Error);
}

TEST(SentencePieceFile, EveryFlippedByteIsRefusedOrHarmless) {
  const std::string bytes = train_sentencepiece(small_corpus(), {.vocab_size = 300});
  std::mt19937 random(11);
  for (int i = 0; i < 300; ++i) {
    std::string bad = bytes;
    bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    try {
      const auto tokenizer = SentencePieceTokenizer::from_bytes(bad, "bad");
      EXPECT_FALSE(tokenizer->encode("river stone").empty());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput);
    }
  }
}

}  // namespace
}  // namespace ink

// Readers: containers, formats, rows, refusals.
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <memory>

#include "data/text/byte_source.h"
#include "data/text/document_reader.h"
#include "data/text/expand_paths.h"
#include "engine/core/utf8.h"
#include "engine/io/atomic_file.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

std::string gzipped(const std::string& text) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, text.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

// With a checksum, as the zstd program writes it.
std::string zstd_packed(const std::string& text) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress2(context.get(), out.data(), out.size(), text.data(), text.size()));
  return out;
}

class TextReader : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / temporary_name("inkstone_text_reader");
    fs::create_directories(path_);
  }
  void TearDown() override { fs::remove_all(path_); }

  std::string write(const std::string& name, std::string_view text) {
    fs::create_directories((path_ / name).parent_path());
    write_file_atomically(path_ / name, text);
    return (path_ / name).string();
  }

  static Strings texts(DocumentReader& reader) {
    Strings found;
    for (Document document; reader.next(document);) found.push_back(document.text);
    return found;
  }
  static Strings read(const Strings& files, ReaderOptions options = {}) {
    DocumentReader reader(files, options);
    return texts(reader);
  }
  // The error of reading one file with these contents.
  Error error_of(const std::string& name, std::string_view text, ReaderOptions options = {}) {
    try {
      static_cast<void>(read({write(name, text)}, options));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadInput);
      return error;
    }
    ADD_FAILURE() << name << " was accepted";
    return {ExitCode::kDone, "", ""};
  }

  fs::path path_;
};

TEST_F(TextReader, ContainersAreFoundByContent) {
  std::string rows;
  for (int i = 0; i < 50000; ++i) rows += fmt::format("{{\"text\": \"row {}\"}}\n", i);
  const Strings plain = read({write("plain", rows)});
  EXPECT_EQ(plain.size(), 50000u);
  EXPECT_EQ(plain[49999], "row 49999");
  EXPECT_EQ(read({write("packed.jsonl", gzipped(rows))}), plain);
  EXPECT_EQ(read({write("packed.txt", zstd_packed(rows))}), plain);
  EXPECT_EQ(read({write("members", gzipped(rows.substr(0, 1000)) + gzipped(rows.substr(1000)))}),
            plain);
  EXPECT_EQ(
      read({write("frames", zstd_packed(rows.substr(0, 1000)) + zstd_packed(rows.substr(1000)))}),
      plain);
}

TEST_F(TextReader, DamagedContainersAreRefused) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * 7919) + " ";
  for (std::string packed : {gzipped(text), zstd_packed(text)}) {
    EXPECT_NE(error_of("cut", packed.substr(0, packed.size() - 9)).line().find("ends too early"),
              std::string::npos);
    packed[packed.size() / 2] ^= 0x55;
    packed[packed.size() / 2 + 1] ^= 0x55;
    static_cast<void>(error_of("flipped", packed));
  }
}

TEST_F(TextReader, TextFilesAreOneDocumentAndLinesAreMany) {
  const std::string file = write("a.txt", "one\n\ntwo\r\nthree");
  EXPECT_EQ(read({file}), (Strings{"one\n\ntwo\r\nthree"}));
  EXPECT_EQ(read({file}, {.format = TextFormat::kLines}), (Strings{"one", "two", "three"}));
  EXPECT_EQ(read({write("b.txt", "[note] {x} is text")}), (Strings{"[note] {x} is text"}));
  EXPECT_EQ(parse_text_format("lines"), TextFormat::kLines);
  EXPECT_THROW(static_cast<void>(parse_text_format("csv")), Error);
}

TEST_F(TextReader, RowsOfTextContentAndTokens) {
  DocumentReader reader({write("rows.jsonl",
                               "{\"text\": \"a\", \"meta\": {}}\n\n{\"content\": \"b\"}\n"
                               "{\"tokens\": [1, -333, 0, 5]}\n"
                               "{\"input_ids\": [4, 0, 6], \"labels\": [-100, 0, 6]}\n"
                               "{\"input_ids\": [4, 5]}")});
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "a");
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "b");
  EXPECT_EQ(document.line, 3);
  ASSERT_TRUE(reader.next(document));
  EXPECT_TRUE(document.is_tokens);
  EXPECT_EQ(document.ids, (std::vector<int32_t>{1, 333, 0, 5}));
  EXPECT_EQ(document.trained, (std::vector<uint8_t>{1, 0, 0, 1}));
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.ids, (std::vector<int32_t>{4, 0, 6}));
  EXPECT_EQ(document.trained, (std::vector<uint8_t>{0, 1, 1}));
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.trained, (std::vector<uint8_t>{1, 1}));
  EXPECT_FALSE(reader.next(document));
  EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
}

TEST_F(TextReader, ArraysOfRowsAreStreamed) {
  DocumentReader reader({write(
      "rows.json",
      "[\n {\"text\": \"a, ]\\\" b\"},\n\n {\"text\": \"c\", \"x\": [1, {\"y\": 2}]}\n]\n")});
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "a, ]\" b");
  EXPECT_EQ(document.line, 2);
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "c");
  EXPECT_EQ(document.line, 4);
  EXPECT_FALSE(reader.next(document));
  EXPECT_EQ(read({write("none.json", "[]")}), Strings{});
  EXPECT_NE(error_of("open.json", "[{\"text\": \"a\"}, {\"te").line().find("ends before"),
            std::string::npos);
}

TEST_F(TextReader, BadRowsAreNamedOrCounted) {
  struct Row {
    std::string row, says;
  };
  const std::vector<Row> rows{
      {R"({"txet": "a"})", "nearest: \"txet\" -> text"},
      {R"({"messages": []})", "messages"},
      {R"({})", "got keys none"},
      {R"([1])", "object"},
      {R"({"text": 5})", "number 5"},
      {R"({"text": "a")", "rows.jsonl:2"},
      {R"({"tokens": [1.5]})", "1.5"},
      {R"({"tokens": 5})", "list"},
      {R"({"input_ids": [-1]})", "-1"},
      {R"({"input_ids": [99999999999]})", "99999999999"},
      {R"({"input_ids": [1, 2], "labels": [1]})", "as many labels"},
      {R"({"input_ids": [1, 2], "labels": [1, 3]})", "label 1"},
      {"{\"text\": \"a\xFF\"}", "rows.jsonl:2"},
  };
  for (const Row& row : rows) {
    const std::string file = "{\"text\": \"good\"}\n" + row.row + "\n{\"text\": \"last\"}\n";
    const Error error = error_of("rows.jsonl", file, {.format = TextFormat::kJsonl});
    EXPECT_NE(error.line().find(row.says), std::string::npos) << row.row << ": " << error.line();
    EXPECT_NE(error.place().find("rows.jsonl:2"), std::string::npos) << error.place();
    DocumentReader reader({(path_ / "rows.jsonl").string()},
                          {.format = TextFormat::kJsonl, .on_bad_row = OnBadRow::kSkip});
    EXPECT_EQ(texts(reader), (Strings{"good", "last"})) << row.row;
    EXPECT_EQ(reader.bad_rows(), 1);
    EXPECT_NE(reader.first_bad_row().find("rows.jsonl:2"), std::string::npos);
  }
}

TEST_F(TextReader, WhatIsNoDataIsNamed) {
  EXPECT_NE(error_of("a.jsonl", "<!DOCTYPE html><html>").line().find("HTML"), std::string::npos);
  EXPECT_NE(
      error_of("b.jsonl", "version https://git-lfs.github.com/spec/v1\noid").line().find("Git LFS"),
      std::string::npos);
  EXPECT_NE(error_of("c.txt", "ab\xC3(").line().find("0xC3 at offset 2"), std::string::npos);
  EXPECT_THROW(static_cast<void>(read({(path_ / "absent.txt").string()})), Error);
}

TEST_F(TextReader, FortunesAreRecordsWithoutEscapes) {
  EXPECT_EQ(read({write("fortunes", "one\n%\n\x1B[32mtwo\x1B[m\nlines\n%\n%\nthree\n")}),
            (Strings{"one\n", "two\nlines\n", "three\n"}));
}

TEST_F(TextReader, DictdDatabasesAreSplitByTheirIndexAndBadEntriesDropped) {
  // Offsets in base 64: A = 0, F = 5, J = 9, N = 13.
  const std::string database =
      "INFO\nink\nbad\xFF"
      "stone";
  const std::string index =
      "00-database-info\tA\tF\nbad\tJ\tE\nink\tF\tE\nstone\tN\tF\nstones\tN\tF\n";
  const std::string path = write("d/words.index", index);
  for (const bool packed : {false, true}) {
    fs::remove(path_ / "d/words.dict");
    write(packed ? "d/words.dict.dz" : "d/words.dict", packed ? gzipped(database) : database);
    DocumentReader reader(expand_paths((path_ / "d").string()));
    EXPECT_EQ(texts(reader), (Strings{"ink\n", "stone"}));
    EXPECT_EQ(reader.bad_rows(), 1);
    EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
  }
  EXPECT_NE(error_of("d/words.index", "far\tN\t//\n").line().find("inside the database"),
            std::string::npos);
  EXPECT_NE(error_of("d/words.index", "far\t!\tA\n").line().find("words.index:1"),
            std::string::npos);
}

TEST_F(TextReader, PathsExpandInSortedOrder) {
  const std::string b = write("b.txt", "b"), a = write("a.txt", "a"), deep = write("c/d.txt", "d");
  write(".hidden", "x");
  write("a.txt.dat", "index of fortunes");
  EXPECT_EQ(expand_paths(path_.string()), (Strings{a, b, deep}));
  EXPECT_EQ(expand_paths((path_ / "*.txt").string()), (Strings{a, b}));
  EXPECT_EQ(expand_paths(b), (Strings{b}));
  EXPECT_THROW(static_cast<void>(expand_paths((path_ / "*.csv").string())), Error);
  EXPECT_EQ(read(expand_paths(path_.string())), (Strings{"a", "b", "d"}));
}

TEST(Utf8, FollowsRfc3629) {
  const Strings valid{"",
                      "a",
                      "\xC2\x80",
                      "\xDF\xBF",
                      "\xE0\xA0\x80",
                      "\xED\x9F\xBF",
                      "\xF0\x90\x80\x80",
                      "\xF4\x8F\xBF\xBF"};
  for (const std::string& text : valid)
    EXPECT_EQ(find_invalid_utf8(text), std::string::npos) << text;
  const Strings invalid{"\x80",         "\xC0\x80",     "\xC1\xBF",         "\xC2",
                        "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                        "\xF5",         "\xFF",         "\xE2\x96"};
  for (const std::string& text : invalid)
    EXPECT_EQ(find_invalid_utf8("eight by" + text), 8u) << text;
  EXPECT_EQ(repair_utf8("a\xFF\xE2\x96z"), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
}

TEST(Utf8, StreamsStopBeforeAnOpenSequence) {
  EXPECT_EQ(complete_utf8_prefix("ab"), 2u);
  EXPECT_EQ(complete_utf8_prefix("ab\xE2\x96"), 2u);
  EXPECT_EQ(complete_utf8_prefix("ab\xE2\x96\x81"), 5u);
  EXPECT_EQ(complete_utf8_prefix("ab\xF0"), 2u);
  EXPECT_EQ(complete_utf8_prefix("\x80\x80\x80\x80"), 4u);
  EXPECT_EQ(complete_utf8_prefix(""), 0u);
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const CodePoint back = first_code_point(text);
    ASSERT_EQ(back.value, c);
    ASSERT_EQ(back.bytes, text.size());
  }
}

}  // namespace
}  // namespace ink

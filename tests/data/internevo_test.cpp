#include "data/store/internevo.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "data/store/internevo_meta.h"
#include "data/store/npy.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;
using test::TestFolder;
namespace fs = std::filesystem;

std::string npy(const std::string& header, const std::string& data, int major = 1) {
  std::string padded = header;
  while ((padded.size() + 11) % 64 != 0) padded += ' ';
  padded += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {static_cast<char>(major), 0, static_cast<char>(padded.size() & 255),
            static_cast<char>(padded.size() >> 8)};
  if (major == 2) bytes += std::string(2, '\0');
  return bytes + padded + data;
}

template <class T>
std::string cells(const std::vector<int64_t>& values) {
  std::string bytes;
  for (const int64_t value : values) {
    const T narrow = static_cast<T>(value);
    bytes.append(reinterpret_cast<const char*>(&narrow), sizeof(T));
  }
  return bytes;
}

std::string header(const std::string& type, size_t rows) {
  return "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + std::to_string(rows) +
         ", 2), }";
}

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// Writes X.bin and its meta.
void write_bin(const fs::path& path, const std::vector<std::vector<int32_t>>& samples) {
  std::string bin;
  std::vector<int64_t> rows;
  for (const auto& sample : samples) {
    rows.push_back(static_cast<int64_t>(bin.size()));
    rows.push_back(static_cast<int64_t>(sample.size()));
    bin += fmt::format("{{\"tokens\": [{}]}}\n", fmt::join(sample, ", "));
  }
  write(path, bin);
  write(path.string() + ".meta", npy(header("<i4", samples.size()), cells<int32_t>(rows)));
}

TEST(InternEvo, NegativeIdIsAMaskedTarget) {
  const TestFolder folder;
  write_bin(folder / "a.bin", {{1, 67577, -69095}, {0, 5}});
  const InternEvoReader reader({folder / "a.bin", 3});
  ASSERT_EQ(reader.size(), 2);
  const TokenDocument first = reader.read(0), second = reader.read(1);
  EXPECT_EQ(first.ids, (std::vector<int32_t>{1, 67577, 69095}));
  EXPECT_EQ(first.untrained, (std::vector<uint8_t>{0, 0, 1}));
  EXPECT_EQ(first.source, 3);
  EXPECT_EQ(first.origin, 1);
  EXPECT_EQ(second.ids, (std::vector<int32_t>{0, 5}));
  EXPECT_EQ(second.untrained, (std::vector<uint8_t>{1, 0})) << "id 0 can never be a target here";
}

TEST(InternEvo, BothIntegerTypesAndBothVersions) {
  for (const int major : {1, 2}) {
    const auto narrow =
        parse_internevo_meta(npy(header("<i4", 2), cells<int32_t>({0, 3, 30, 4}), major), "m", 100);
    const auto wide =
        parse_internevo_meta(npy(header("<i8", 2), cells<int64_t>({0, 3, 30, 4}), major), "m", 100);
    for (const auto& rows : {narrow, wide}) {
      ASSERT_EQ(rows.size(), 2u);
      EXPECT_EQ(rows[1].offset, 30);
      EXPECT_EQ(rows[1].tokens, 4);
    }
  }
}

TEST(InternEvo, OffsetsBeyondTwoGigabytes) {
  const int64_t far = int64_t{3} << 30;
  const auto rows =
      parse_internevo_meta(npy(header("<i8", 2), cells<int64_t>({0, 3, far, 4})), "m", far + 50);
  EXPECT_EQ(rows[1].offset, far);
  // What 32 bits make of it.
  const Error error = error_of([&] {
    (void)parse_internevo_meta(npy(header("<i4", 2), cells<int32_t>({0, 3, far, 4})), "m",
                               far + 50);
  });
  EXPECT_NE(error.line().find("row 1, column 0"), std::string::npos) << error.line();
  EXPECT_NE(error.hint().find("int64"), std::string::npos);
}

TEST(InternEvo, TypeIsTheSubFolderInSortedOrder) {
  const TestFolder folder;
  write_bin(folder / "en/b.bin", {{1}});
  write_bin(folder / "en/a.bin", {{1}});
  write_bin(folder / "cn/deep/c.bin", {{1}});
  write_bin(folder / "cn/z.bin", {{1}});
  fs::create_directories(folder / "empty");
  const InternEvoFolder found = list_internevo(folder.path());
  EXPECT_EQ(found.types, (std::vector<std::string>{"cn", "empty", "en"}));
  std::vector<std::pair<std::string, int32_t>> files;
  for (const auto& file : found.files)
    files.emplace_back(fs::relative(file.path, folder.path()).string(), file.type_id);
  const std::vector<std::pair<std::string, int32_t>> expected = {
      {"cn/z.bin", 0}, {"cn/deep/c.bin", 0}, {"en/a.bin", 2}, {"en/b.bin", 2}};
  EXPECT_EQ(files, expected);
  EXPECT_TRUE(is_internevo(folder.path()));
  EXPECT_FALSE(is_internevo(folder / "empty"));
}

TEST(InternEvo, MissingMetaAndEmptyFolder) {
  const TestFolder folder;
  EXPECT_EQ(error_of([&] { (void)list_internevo(folder.path()); }).code(), ExitCode::kBadInput);
  write(folder / "a.bin", "{\"tokens\": [1]}\n");
  const Error error = error_of([&] { (void)list_internevo(folder.path()); });
  EXPECT_EQ(error.code(), ExitCode::kBadInput);
  EXPECT_NE(error.line().find("a.bin.meta"), std::string::npos) << error.line();
}

// The rebuilt file says what the one that was written beside the tokens says.
TEST(InternEvo, MetaIsRebuiltFromTheTokens) {
  const TestFolder folder;
  const fs::path bin = folder / "a.bin";
  std::string text;
  std::vector<int64_t> expected;
  for (int row = 0; row < 3000; ++row) {
    std::string line = "{\"tokens\": [-5";
    for (int t = 0; t < row % 211; ++t) line += ", " + std::to_string(100000 + t);
    line += "]}\n";
    expected.insert(expected.end(), {static_cast<int64_t>(text.size()), row % 211 + 1});
    text += line;
  }
  ASSERT_GT(text.size(), size_t{2} << 20) << "the scan reads one block only";
  write(bin, text);
  const ScannedMeta scanned = write_internevo_meta(bin);
  EXPECT_EQ(scanned.samples, 3000);
  std::ifstream file(meta_of(bin), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(parse_npy_header(bytes, "meta").data_offset % 64, 0u);
  const auto rows = parse_internevo_meta(bytes, "meta", static_cast<int64_t>(text.size()));
  ASSERT_EQ(rows.size(), 3000u);
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].offset, expected[2 * i]);
    ASSERT_EQ(rows[i].tokens, expected[2 * i + 1]);
  }
  const InternEvoReader reader(list_internevo(bin).files[0]);
  EXPECT_EQ(reader.read(2999).ids.size(), static_cast<size_t>(2999 % 211 + 1));
}

TEST(InternEvo, RebuildingRefusesWhatTheReaderRefuses) {
  const TestFolder folder;
  write(folder / "a.bin.meta", "the old one");
  for (const char* line : {"{\"tokens\": [1.5]}\n", "{\"tokens\": [1]}", "\n", "{}\n"}) {
    write(folder / "a.bin", std::string("{\"tokens\": [1]}\n") + line);
    const Error error = error_of([&] { write_internevo_meta(folder / "a.bin"); });
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_NE(error.line().find("a.bin:2"), std::string::npos) << error.line();
    std::ifstream file(folder / "a.bin.meta");
    std::string kept;
    std::getline(file, kept);
    EXPECT_EQ(kept, "the old one");
  }
}

struct MetaCase {
  const char* name;
  std::string bytes;
  const char* message;
};

class InternEvoMeta : public ::testing::TestWithParam<MetaCase> {};

TEST_P(InternEvoMeta, IsRefused) {
  const Error error =
      error_of([&] { (void)parse_internevo_meta(GetParam().bytes, "x.meta", 100); });
  EXPECT_EQ(error.code(), ExitCode::kBadInput);
  EXPECT_NE(error.line().find(GetParam().message), std::string::npos) << error.line();
}

const std::string kTwoRows = cells<int32_t>({0, 3, 30, 4});
const MetaCase kMetaCases[] = {
    {"Empty", "", "expected a NumPy array"},
    {"OtherBytes", "PK\x03\x04", "expected a NumPy array"},
    {"OnlyMagic", "\x93NUMPY", "expected an npy version"},
    {"Version3", npy(header("<i4", 2), kTwoRows, 3), "expected npy version 1.0 or 2.0, got 3.0"},
    {"HeaderBeyondTheEnd", std::string("\x93NUMPY\x01\x00\xff\xff{", 11),
     "expected an npy header of 65535"},
    {"FloatType", npy(header("<f4", 2), kTwoRows), "got '<f4'"},
    {"BigEndian", npy(header(">i4", 2), kTwoRows), "got '>i4'"},
    {"Objects", npy(header("|O", 2), kTwoRows), "got '|O'"},
    {"FortranOrder", npy("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 2), }", kTwoRows),
     "fortran_order False"},
    {"OneDimension", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }", kTwoRows),
     "expected shape (N, 2), got (4)"},
    {"ThreeColumns", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", kTwoRows),
     "got (2, 3)"},
    {"NegativeShape", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (-2, 2), }", kTwoRows),
     "expected an extent"},
    {"HugeShape",
     npy("{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999, 2), }",
         kTwoRows),
     "expected an extent of at most"},
    {"ShapeBeyondTheData", npy(header("<i4", 3), kTwoRows), "expected 24 bytes of data, got 16"},
    {"TrailingData", npy(header("<i4", 1), kTwoRows), "expected 8 bytes of data, got 16"},
    {"UnknownKey", npy("{'descr': '<i4', 'x': True, 'shape': (2, 2), }", kTwoRows), "got 'x'"},
    {"KeyTwice",
     npy("{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (2, 2)}", kTwoRows),
     "got 'descr'"},
    {"MissingKey", npy("{'descr': '<i4', 'shape': (2, 2)}", kTwoRows), "the keys"},
    {"TextAfterTheHeader", npy(header("<i4", 2) + " x", kTwoRows), "the end of the header"},
    {"FallingOffset", npy(header("<i4", 2), cells<int32_t>({0, 3, 0, 4})), "row 1, column 0"},
    {"NegativeOffset", npy(header("<i4", 2), cells<int32_t>({0, 3, -5, 4})), "row 1, column 0"},
    {"OffsetPastTheEnd", npy(header("<i4", 2), cells<int32_t>({0, 3, 100, 4})), "got 100"},
    {"FirstOffsetNotZero", npy(header("<i4", 2), cells<int32_t>({2, 3, 30, 4})), "row 0, column 0"},
    {"EmptySample", npy(header("<i4", 2), cells<int32_t>({0, 3, 30, 0})), "row 1, column 1"},
};

INSTANTIATE_TEST_SUITE_P(All, InternEvoMeta, ::testing::ValuesIn(kMetaCases),
                         [](const auto& info) { return std::string(info.param.name); });

struct LineCase {
  const char* name;
  std::string line;
  const char* message;
};

class InternEvoLine : public ::testing::TestWithParam<LineCase> {};

// One line with the stated count of two tokens.
TEST_P(InternEvoLine, IsRefusedWithFileAndRow) {
  const TestFolder folder;
  const std::string first = "{\"tokens\": [1, 2]}\n";
  write(folder / "a.bin", first + GetParam().line);
  write(folder / "a.bin.meta",
        npy(header("<i4", 2), cells<int32_t>({0, 2, static_cast<int64_t>(first.size()), 2})));
  const InternEvoReader reader({folder / "a.bin", 0});
  EXPECT_EQ(reader.read(0).ids.size(), 2u);
  const Error error = error_of([&] { (void)reader.read(1); });
  EXPECT_EQ(error.code(), ExitCode::kBadInput);
  EXPECT_NE(error.line().find("a.bin:2: "), std::string::npos) << error.line();
  EXPECT_NE(error.line().find(GetParam().message), std::string::npos) << error.line();
}

const LineCase kLineCases[] = {
    {"NoNewline", "{\"tokens\": [1, 2]}", "one line"},
    {"TwoLines", "{\"tokens\": [1, 2]}\n{\"tokens\": [1, 2]}\n", "one line"},
    {"BrokenJson", "{\"tokens\": [1, 2}\n", "JSON is broken"},
    {"OtherKey", "{\"ids\": [1, 2]}\n", "got key \"ids\""},
    {"KeyTwice", "{\"tokens\": [1, 2], \"tokens\": [3, 4]}\n", "got key \"tokens\""},
    {"Float", "{\"tokens\": [1, 2.5]}\n", "got 2.5"},
    {"String", "{\"tokens\": [1, \"2\"]}\n", "got a string"},
    {"Null", "{\"tokens\": null}\n", "got null"},
    {"Nested", "{\"tokens\": [[1, 2]]}\n", "got an array"},
    {"BareNumber", "{\"tokens\": 7}\n", "got 7"},
    {"TooLarge", "{\"tokens\": [1, 4294967296]}\n", "got 4294967296"},
    {"TooSmall", "{\"tokens\": [1, -4294967296]}\n", "got -4294967296"},
    {"OtherCount", "{\"tokens\": [1, 2, 3]}\n", "expected 2 tokens as in the meta, got 3"},
    {"NoKey", "{}\n", "no key"},
};

INSTANTIATE_TEST_SUITE_P(All, InternEvoLine, ::testing::ValuesIn(kLineCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ink

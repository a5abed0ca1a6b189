#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>

#include "engine/io/safetensors_reader.h"
#include "engine/io/safetensors_writer.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/golden_folder.h"

namespace ink {
namespace {

const ExitCode kBad = ExitCode::kBadInput;

std::string with_length(uint64_t length, std::string_view rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(rest);
}

std::string file_of(std::string_view header, size_t data_bytes) {
  return with_length(header.size(), std::string(header) + std::string(data_bytes, '\1'));
}

SafetensorsTable parse(std::string_view header, uint64_t data_bytes) {
  return SafetensorsTable::parse(header, data_bytes, "f.safetensors");
}

int64_t peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

struct BadFile {
  const char* what;
  std::string bytes;
  std::vector<std::string> words;
};

// Damage that the length and the first bytes tell.
TEST(SafetensorsReader, RefusesBrokenContainers) {
  const TemporaryFolder folder;
  const std::string zip = std::string("PK\3\4", 4) + std::string(200, 'z');
  const std::string pickle = std::string("\x80\x02\x8a\x0al\xfc\x9c", 7) + std::string(200, 'p');
  const std::vector<BadFile> files = {
      {"empty", "", {"at least 8 bytes", "got 0"}},
      {"seven bytes", std::string(7, '\0'), {"got 7"}},
      {"length 0", with_length(0, "{}"), {"header length", "got 0"}},
      {"length 2^64-1", with_length(~uint64_t{0}, "{}"), {"18446744073709551615"}},
      {"length 100,000,001", with_length(100'000'001, "{}"), {"100000001"}},
      {"length beyond the file", with_length(3, "{}"), {"from 1 to 2", "got 3"}},
      {"byte 0xff", with_length(2, "\xff\xff"), {"0xff"}},
      {"open brace", with_length(1, "{"), {"JSON"}},
      {"a million brackets", file_of("{\"a\":" + std::string(1'000'000, '['), 0), {"an object"}},
      {"zip", zip, {"zip archive", "pickle refused"}},
      {"pickle", pickle, {"pickle refused"}},
  };
  for (const BadFile& file : files) {
    SCOPED_TRACE(file.what);
    const auto path = folder.write("f.safetensors", file.bytes);
    const int64_t before = peak_kib();
    auto words = file.words;
    words.push_back("f.safetensors");
    expect_error(kBad, words, [&] { (void)SafetensorsReader::open(path); });
    EXPECT_LT(peak_kib() - before, 100 << 10);
  }
}

// A length whose low bytes look like a pickle's first ones is still a length.
TEST(SafetensorsReader, AcceptsALengthThatBeginsLikeAPickle) {
  const TemporaryFolder folder;
  const std::string header = "{}" + std::string(0x0280 - 2, ' ');
  const auto path = folder.write("f.safetensors", file_of(header, 0));
  EXPECT_TRUE(SafetensorsReader::open(path).table().entries().empty());
}

struct BadHeader {
  const char* header;
  uint64_t data_bytes;
  std::vector<std::string> words;
};

// Damage inside the header; every message names the tensor.
TEST(SafetensorsTable, RefusesBrokenHeaders) {
  const std::vector<BadHeader> cases = {
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", 16, {"\"a\"", "[16, 0]"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[-1,15]}})", 16, {"\"a\"", "-1"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16.0]}})", 16, {"\"a\"", "16.0"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1e3]}})", 1000, {"\"a\"", "1e3"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}})",
       16,
       {"\"a\"", "two data_offsets"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}})",
       16,
       {"\"a\"", "two data_offsets"}},
      {R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", 16, {"\"a\"", "-4"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,20]}})", 16, {"\"a\"", "16"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}})", 12, {"\"a\"", "16 bytes"}},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
       0,
       {"\"a\"", "64-bit"}},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, {"\"a\"", "whole"}},
      {R"({"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}})",
       16,
       {"\"a\"", "\"F33\"", "not supported"}},
      {R"({"a":{"dtype":"F32","shape":[4]}})", 16, {"\"a\"", "data_offsets"}},
      {R"({"a":{"shape":[4],"data_offsets":[0,16]}})", 16, {"\"a\"", "dtype"}},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
       16,
       {"\"a\"", "dtype", "twice"}},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})", 16, {"\"a\"", "\"x\""}},
      {R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})",
       16,
       {"\"a\"", "a list for shape"}},
      {R"({"a":{"dtype":["F32"],"shape":[4],"data_offsets":[0,16]}})", 16, {"\"a\"", "dtype"}},
      {R"({"a":{"dtype":"F32","shape":[[4]],"data_offsets":[0,16]}})", 16, {"\"a\"", "a list"}},
      {R"({"a":7})", 0, {"\"a\"", "7"}},
      {R"({"a\nb":null})", 0, {"\"a\\nb\"", "null"}},
      {R"({"__metadata__":{"format":1}})", 0, {"format", "a string"}},
      {R"({"__metadata__":{"a":"b","a":"c"}})", 0, {"\"a\"", "twice"}},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, {"__metadata__", "twice"}},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6,
       {"\"b\"", "overlaps"}},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}})",
       8,
       {"\"b\"", "a hole"}},
      {R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})", 4, {"\"b\"", "a hole"}},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, {"1 trailing bytes"}},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
       8,
       {"\"a\"", "twice"}},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       4,
       {"\"a\"", "twice"}},
      {R"([])", 0, {"a header object"}},
      {R"({} x)", 0, {"JSON"}},
  };
  for (const BadHeader& bad : cases) {
    SCOPED_TRACE(bad.header);
    auto words = bad.words;
    words.push_back("f.safetensors");
    expect_error(kBad, words, [&] { (void)parse(bad.header, bad.data_bytes); });
  }
}

TEST(SafetensorsTable, RefusesTenTensorsOnTheSameBytes) {
  std::string header = "{";
  for (int i = 0; i < 10; ++i) {
    header += fmt::format(R"({}"t{}":{{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                          i ? "," : "", i);
  }
  expect_error(kBad, {"\"t1\"", "overlaps"}, [&] { (void)parse(header + "}", 16); });
}

// Controls: unusual and right.
TEST(SafetensorsTable, AcceptsScalarsEmptiesPaddingOrderAndForeignTypes) {
  const SafetensorsTable table = parse(
      R"({"z":{"data_offsets":[12,14],"shape":[2],"dtype":"F8_E4M3"},)"
      R"("empty":{"dtype":"F32","shape":[2,0],"data_offsets":[4,4]},)"
      R"("scalar":{"shape":[],"dtype":"F32","data_offsets":[0,4]},)"
      R"("huge_but_empty":{"dtype":"F32","shape":[9223372036854775807,9,0],"data_offsets":[12,12]},)"
      R"("a":{"dtype":"I64","shape":[1],"data_offsets":[4,12]},)"
      R"("four":{"dtype":"F4","shape":[2,2],"data_offsets":[14,16]},)"
      R"("__metadata__":{"format":"pt","step":"3"}}         )",
      16);
  EXPECT_EQ(table.entries().size(), 6u);
  EXPECT_EQ(table.metadata().at("step"), "3");
  ASSERT_NE(table.find("scalar"), nullptr);
  EXPECT_EQ(table.find("scalar")->numel(), 1);
  EXPECT_EQ(table.find("huge_but_empty")->numel(), 0);
  EXPECT_EQ(table.find("z")->dtype->name, "F8_E4M3");
  EXPECT_FALSE(table.find("z")->dtype->native.has_value());
  EXPECT_EQ(table.find("four")->bytes(), 2u);
  EXPECT_EQ(table.find("nothing"), nullptr);
}

TEST(Safetensors, RoundTripsEveryDType) {
  const TemporaryFolder folder;
  std::vector<SafetensorsSpec> specs;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kI64,
                            DType::kI32, DType::kU16, DType::kU8}) {
    specs.push_back({fmt::format("a \"{}\"", name_of(dtype)), dtype, Shape{3, 5}});
  }
  specs.push_back({"scalar", DType::kF32, Shape{}});
  specs.push_back({"empty", DType::kF32, Shape{2, 0}});
  const auto content = [](const SafetensorsSpec& spec) {
    std::vector<std::byte> bytes(spec.bytes());
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(i * 7 + spec.name.size());
    return bytes;
  };
  const auto write = [&](const std::string& name) {
    SafetensorsWriter writer(folder / name, specs);
    for (const SafetensorsSpec& spec : specs) {
      const std::vector<std::byte> bytes = content(spec);
      const size_t half = bytes.size() / 2;  // in two pieces
      writer.write(spec.name, std::span(bytes).first(half));
      writer.write(spec.name, std::span(bytes).subspan(half));
    }
    return writer.finish();
  };
  const WrittenFile first = write("1"), second = write("2");
  EXPECT_EQ(first.sha256, second.sha256);
  EXPECT_EQ(first.sha256, sha256_of(File::open(folder / "1")));
  EXPECT_EQ(first.bytes, std::filesystem::file_size(folder / "1"));

  const SafetensorsReader reader = SafetensorsReader::open(folder / "1");
  EXPECT_EQ(reader.table().metadata().at("format"), "pt");
  ASSERT_EQ(reader.table().entries().size(), specs.size());
  for (const SafetensorsSpec& spec : specs) {
    SCOPED_TRACE(spec.name);
    const SafetensorsEntry* entry = reader.table().find(spec.name);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->dtype->native, spec.dtype);
    EXPECT_EQ(Shape(entry->shape), spec.shape);
    std::vector<std::byte> bytes(entry->bytes());
    reader.read(*entry, 0, bytes);
    EXPECT_EQ(bytes, content(spec));
  }
  uint64_t length = 0;
  reader.file().read(0, std::as_writable_bytes(std::span(&length, 1)));
  EXPECT_EQ(length % 8, 0u);
}

TEST(SafetensorsWriter, RefusesDataOutOfOrderAndMissingData) {
  const TemporaryFolder folder;
  const std::vector<SafetensorsSpec> specs = {{"a", DType::kU8, Shape{2}},
                                              {"b", DType::kU8, Shape{2}}};
  const std::vector<std::byte> two(2), three(3);
  SafetensorsWriter skips(folder / "1", specs);
  EXPECT_THROW(skips.write("b", two), InternalError);
  SafetensorsWriter overflows(folder / "2", specs);
  EXPECT_THROW(overflows.write("a", three), InternalError);
  SafetensorsWriter stops(folder / "3", specs);
  stops.write("a", two);
  EXPECT_THROW((void)stops.finish(), InternalError);
  EXPECT_THROW(SafetensorsWriter(folder / "4", {specs[0], specs[0]}), InternalError);
}

TEST(SafetensorsReader, ReadsTheGoldenFilesOfTheTree) {
  if (!golden_is_of_the_tree()) GTEST_SKIP() << kOfTheTree;
  const SafetensorsReader reader =
      SafetensorsReader::open(golden_folder("internlm2") / "model.safetensors");
  const SafetensorsEntry* wqkv = reader.table().find("model.layers.3.attention.wqkv.weight");
  ASSERT_NE(wqkv, nullptr);
  EXPECT_EQ(wqkv->shape, (std::vector<int64_t>{96, 64}));
  EXPECT_EQ(wqkv->dtype->native, DType::kF32);
}

}  // namespace
}  // namespace ink

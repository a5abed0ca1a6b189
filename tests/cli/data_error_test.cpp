// Tokenizers, texts and token stores that are refused: code 3, nothing published.

#include <hdf5.h>

#include <functional>

#include "tests/cli/inkstone_run.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// A filter of the kind that a plug-in would bring: this process has it, the program has not.
size_t pass_through(unsigned, size_t, const unsigned*, size_t bytes, size_t*, void**) {
  return bytes;
}
constexpr H5Z_filter_t kForeignFilter = 300;
const H5Z_class2_t kForeignFilterClass = {H5Z_CLASS_T_VERS, kForeignFilter, 1,       1,
                                          "foreign",        nullptr,        nullptr, pass_through};

// The table /train/tokens of a store made anew, of 16-bit ids unless told otherwise.
void replace_tokens(hid_t file, const std::function<void(hid_t creation)>& set_up,
                    std::vector<hsize_t> shape = {2000}, hid_t type = H5T_STD_U16LE) {
  ASSERT_GE(H5Ldelete(file, "/train/tokens", H5P_DEFAULT), 0);
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  set_up(creation);
  const hid_t table =
      H5Dcreate2(file, "/train/tokens", type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  ASSERT_GE(table, 0);
  const std::vector<uint16_t> ids(2000, 7);
  H5E_BEGIN_TRY { H5Dwrite(table, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids.data()); }
  H5E_END_TRY
  H5Dclose(table);
  H5Pclose(creation);
  H5Sclose(space);
}

void chunked(hid_t creation, std::vector<hsize_t> chunk = {2000}) {
  H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  H5Pset_fletcher32(creation);
}

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

// Wrong type or rank, what is missing, and everything that would lead out of the file.
TEST_F(DataError, ForgedStores) {
  ASSERT_EQ(prepare("rows.jsonl", "good.h5").code, 0);
  place_.write("outside.bin", std::string(4000, '\x01'));
  place_.write_run("train: {steps: 2}\ncheckpoint: {dir: run}");
  H5Zregister(&kForeignFilterClass);
  const std::map<std::string, std::function<void(hid_t)>> forgeries = {
      {"type",
       [](hid_t file) {
         replace_tokens(
             file, [](hid_t c) { chunked(c); }, {2000}, H5T_STD_I32LE);
       }},
      {"rank",
       [](hid_t file) {
         replace_tokens(file, [](hid_t c) { chunked(c, {40, 50}); }, {40, 50});
       }},
      {"missing table", [](hid_t file) { H5Ldelete(file, "/train/tokens", H5P_DEFAULT); }},
      {"soft link",
       [](hid_t file) {
         H5Ldelete(file, "/train/tokens", H5P_DEFAULT);
         H5Lcreate_soft("/train/packs", file, "/train/tokens", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"external link",
       [](hid_t file) {
         H5Ldelete(file, "/train/tokens", H5P_DEFAULT);
         H5Lcreate_external("good.h5", "/train/tokens", file, "/train/tokens", H5P_DEFAULT,
                            H5P_DEFAULT);
       }},
      {"external storage",
       [this](hid_t file) {
         const std::string outside = (place_ / "outside.bin").string();
         replace_tokens(file, [&](hid_t c) { H5Pset_external(c, outside.c_str(), 0, 4000); });
       }},
      {"virtual table",
       [](hid_t file) {
         const hsize_t size = 2000;
         const hid_t space = H5Screate_simple(1, &size, nullptr);
         replace_tokens(
             file, [&](hid_t c) { H5Pset_virtual(c, space, "good.h5", "/train/tokens", space); });
         H5Sclose(space);
       }},
      {"foreign filter", [](hid_t file) {
         replace_tokens(file, [](hid_t c) {
           chunked(c);
           H5Pset_filter(c, kForeignFilter, H5Z_FLAG_MANDATORY, 0, nullptr);
         });
       }}};
  for (const auto& [what, forge] : forgeries) {
    SCOPED_TRACE(what);
    fs::copy_file(place_ / "good.h5", place_ / "bad.h5", fs::copy_options::overwrite_existing);
    const hid_t file = H5Fopen((place_ / "bad.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    forge(file);
    H5Fclose(file);
    expect_error(place_.run({"inspect", "bad.h5"}), 3, {"bad.h5", "/train"});
    expect_error(place_.run({"data", "stats", "bad.h5"}), 3, {"bad.h5"});
    for (const char* flag : {"--dry-run", "--quiet"})
      expect_error(place_.run({"train", "run.yaml", "data.train=[{path: bad.h5}]", flag}), 3,
                   {"bad.h5"});
    EXPECT_FALSE(fs::exists(place_ / "run/step-2"));
  }
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

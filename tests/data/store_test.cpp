#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <map>
#include <thread>

#include "data/packing/permutation.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;
using test::TestFolder;
namespace fs = std::filesystem;

std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(TokenStore, KeepsEveryDocumentInPermutedOrder) {
  const TestFolder folder;
  const auto documents = test::numbered_documents(40);
  const auto summary = test::write_store(folder / "a.h5", documents, test::small_header(16));
  const auto store = TokenStore::open(folder / "a.h5");
  const Permutation order(40, 7, "documents");
  ASSERT_EQ(store->sizes(Split::kTrain).documents, 40u);
  EXPECT_EQ(store->sizes(Split::kEval).documents, 0u);
  EXPECT_EQ(summary.train.trained, store->sizes(Split::kTrain).trained);
  for (uint64_t place = 0; place < 40; ++place) {
    const TokenDocument got = store->read_document(Split::kTrain, place);
    const TokenDocument& expected = documents[order.at(place)];
    EXPECT_EQ(got.ids, expected.ids);
    EXPECT_EQ(got.untrained, expected.untrained);
    EXPECT_EQ(got.origin, expected.origin);
  }
  store->verify();
}

// Packs laid end to end are the documents laid end to end, with the labels of the rule.
TEST(TokenStore, PacksAreTheDocumentsEndToEnd) {
  const TestFolder folder;
  const auto documents = test::numbered_documents(60);
  test::write_store(folder / "a.h5", documents, test::small_header(16));
  const auto store = TokenStore::open(folder / "a.h5");
  std::vector<int32_t> tokens, labels;
  for (uint64_t d = 0; d < 60; ++d) {
    const TokenDocument document = store->read_document(Split::kTrain, d);
    for (size_t i = 0; i < document.ids.size(); ++i) {
      tokens.push_back(document.ids[i]);
      const bool target = i + 1 < document.ids.size() && !document.untrained[i + 1];
      labels.push_back(target ? document.ids[i + 1] : kIgnoreLabel);
    }
  }
  std::vector<int32_t> got_tokens, got_labels;
  uint64_t trained = 0;
  const uint64_t packs = store->sizes(Split::kTrain).packs;
  EXPECT_EQ(packs, (tokens.size() + 15) / 16);
  for (uint64_t p = 0; p < packs; ++p) {
    const Pack pack = make_pack(store->read_pack(Split::kTrain, p), ResetPositions::kDocument);
    EXPECT_EQ(pack.tokens.size(), p + 1 < packs ? 16u : tokens.size() - 16 * (packs - 1));
    got_tokens.insert(got_tokens.end(), pack.tokens.begin(), pack.tokens.end());
    got_labels.insert(got_labels.end(), pack.labels.begin(), pack.labels.end());
    trained += static_cast<uint64_t>(pack.trained);
    EXPECT_EQ(static_cast<uint64_t>(pack.trained), store->pack_row(Split::kTrain, p).trained);
  }
  EXPECT_EQ(got_tokens, tokens);
  EXPECT_EQ(got_labels, labels);
  EXPECT_EQ(trained, store->sizes(Split::kTrain).trained);
}

TEST(TokenStore, HeldOutDocumentsAreTheFirstOfTheOrder) {
  const TestFolder folder;
  const auto documents = test::numbered_documents(50);
  test::write_store(folder / "a.h5", documents, test::small_header(16, 0.1));
  const auto store = TokenStore::open(folder / "a.h5");
  ASSERT_EQ(store->sizes(Split::kEval).documents, 5u);
  ASSERT_EQ(store->sizes(Split::kTrain).documents, 45u);
  const Permutation order(50, 7, "documents");
  for (uint64_t i = 0; i < 5; ++i)
    EXPECT_EQ(store->read_document(Split::kEval, i).ids, documents[order.at(i)].ids);
  store->verify();
}

TEST(TokenStore, AtLeastOneDocumentIsHeldOut) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(10), test::small_header(16, 0.001));
  EXPECT_EQ(TokenStore::open(folder / "a.h5")->sizes(Split::kEval).documents, 1u);
}

TEST(TokenStore, WideVocabularyUses32Bits) {
  const TestFolder folder;
  StoreHeader header = test::small_header(8);
  header.vocab_size = 92544;
  test::write_store(folder / "a.h5", {test::make_document({1, 92543, 65536, 0})}, header);
  const auto store = TokenStore::open(folder / "a.h5");
  EXPECT_EQ(store->read_document(Split::kTrain, 0).ids, (std::vector<int32_t>{1, 92543, 65536, 0}));
}

// The format can hold times in seconds: the second file is made in another one.
TEST(TokenStore, IsTheSameFileTwice) {
  const TestFolder folder;
  for (const char* name : {"a.h5", "b.h5"}) {
    const std::time_t now = std::time(nullptr);
    while (std::time(nullptr) == now) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    test::write_store(folder / name, test::numbered_documents(30), test::small_header(16, 0.1));
  }
  EXPECT_EQ(TokenStore::open(folder / "a.h5")->header().content_hash,
            TokenStore::open(folder / "b.h5")->header().content_hash);
  EXPECT_EQ(read_bytes(folder / "a.h5"), read_bytes(folder / "b.h5"));
}

TEST(TokenStore, WriterRefusesBadDocuments) {
  const TestFolder folder;
  TokenStoreWriter writer(folder / "a.h5", test::small_header(8));
  const Error wide = error_of([&] { writer.append(test::make_document({1, 60000}, 12)); });
  EXPECT_EQ(wide.code(), ExitCode::kBadInput);
  EXPECT_EQ(wide.line(),
            "error[3]: corpus.jsonl:12: column 1: expected an id in 0..59999, got 60000");
  EXPECT_EQ(error_of([&] { writer.append(test::make_document({-1})); }).code(),
            ExitCode::kBadInput);
  EXPECT_EQ(error_of([&] { writer.append(test::make_document({})); }).code(), ExitCode::kBadInput);
}

TEST(TokenStore, NoPackIsAnErrorAndLeavesNothing) {
  const TestFolder folder;
  {
    TokenStoreWriter writer(folder / "a.h5", test::small_header(8, 0.5));
    writer.append(test::make_document({1, 2}));
    const Error error = error_of([&] { (void)writer.finish(); });
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_NE(error.line().find("1 documents with 2 tokens"), std::string::npos) << error.line();
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(TokenStore, MissingDirectoryIsCode4) {
  const TestFolder folder;
  const Error error =
      error_of([&] { TokenStoreWriter(folder / "no" / "a.h5", test::small_header(8)); });
  EXPECT_EQ(error.code(), ExitCode::kIo);
}

TEST(TokenStore, ManyThreadsReadOneStore) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(200), test::small_header(16));
  const auto store = TokenStore::open(folder / "a.h5");
  std::vector<std::thread> threads;
  std::vector<int64_t> sums(4, 0);
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t p = 0; p < store->sizes(Split::kTrain).packs; ++p)
        for (const int32_t id : store->read_pack(Split::kTrain, p).ids) sums[t] += id;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, std::vector<int64_t>(4, sums[0]));
  EXPECT_GT(sums[0], 0);
}

// DAT-3: bits of the stored tokens, one at a time and in every position of a byte, are noticed.
TEST(TokenStoreDamage, AFlippedTokenBitIsFound) {
  const TestFolder folder;
  TokenDocument document;
  for (int i = 0; i < 64; ++i) document.ids.push_back(0x5A00 + i);
  document.untrained.assign(64, 0);
  test::write_store(folder / "a.h5", {document}, test::small_header(32));
  const std::string whole = read_bytes(folder / "a.h5");
  std::string pattern;
  for (int i = 0; i < 64; ++i) pattern += {static_cast<char>(i), 0x5A};
  const size_t at = whole.find(pattern);
  ASSERT_NE(at, std::string::npos);
  for (size_t bit = 0; bit < 128 * 8; bit += 5) {
    std::string damaged = whole;
    damaged[at + bit / 8] = static_cast<char>(damaged[at + bit / 8] ^ (1 << bit % 8));
    write_bytes(folder / "b.h5", damaged);
    const Error error = error_of([&] {
      const auto store = TokenStore::open(folder / "b.h5");
      (void)store->read_pack(Split::kTrain, 0);
      (void)store->read_pack(Split::kTrain, 1);
    });
    ASSERT_EQ(error.code(), ExitCode::kBadInput) << bit;
    ASSERT_NE(error.line().find("/train/tokens"), std::string::npos) << error.line();
  }
}

// Any flipped byte anywhere: the same content or an error, never a crash or other data.
TEST(TokenStoreDamage, AnyFlippedByteIsHarmlessOrFound) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(12), test::small_header(16, 0.1));
  const std::string whole = read_bytes(folder / "a.h5");
  int found = 0;
  for (size_t at = 0; at < whole.size(); at += 31) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    write_bytes(folder / "b.h5", damaged);
    try {
      TokenStore::open(folder / "b.h5")->verify();
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::kBadInput) << at << " " << error.line();
      ++found;
    }
  }
  EXPECT_GT(found, 20);
}

TEST(TokenStoreDamage, TruncationAtEveryLengthIsFound) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(12), test::small_header(16));
  const std::string whole = read_bytes(folder / "a.h5");
  for (size_t size = 0; size < whole.size(); size += 307) {
    write_bytes(folder / "b.h5", whole.substr(0, size));
    EXPECT_EQ(error_of([&] { TokenStore::open(folder / "b.h5")->verify(); }).code(),
              ExitCode::kBadInput)
        << size;
  }
}

TEST(TokenStoreDamage, ForeignAndAbsentFiles) {
  const TestFolder folder;
  write_bytes(folder / "text.h5", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(error_of([&] { (void)TokenStore::open(folder / "text.h5"); }).code(),
            ExitCode::kBadInput);
  EXPECT_EQ(error_of([&] { (void)TokenStore::open(folder / "none.h5"); }).code(),
            ExitCode::kBadInput);
  EXPECT_EQ(error_of([&] { (void)TokenStore::open(folder.path()); }).code(), ExitCode::kBadInput);
}

// A store made by hand, each time with one thing wrong.
struct Forge {
  fs::path path;
  hid_t file;

  explicit Forge(const fs::path& p)
      : path(p), file(H5Fopen(p.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)) {}
  ~Forge() { H5Fclose(file); }

  void remove(const char* name) const { H5Ldelete(file, name, H5P_DEFAULT); }

  // Replaces a table by one of `type` with the values; filters: 0 none, 1 Fletcher32, 2 deflate
  // too.
  template <class T>
  void put(const char* name, hid_t type, hid_t memory, const std::vector<T>& values,
           int filters = 1, std::vector<hsize_t> shape = {}) const {
    if (shape.empty()) shape = {values.size()};
    if (H5Lexists(file, name, H5P_DEFAULT) > 0) remove(name);
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    if (filters > 0) {
      H5Pset_chunk(creation, static_cast<int>(shape.size()), shape.data());
      H5Pset_fletcher32(creation);
    }
    if (filters == 2) H5Pset_deflate(creation, 1);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(set, 0);
    ASSERT_GE(H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    H5Dclose(set);
    H5Pclose(creation);
    H5Sclose(space);
  }
  void put_u64(const char* name, const std::vector<uint64_t>& values,
               std::vector<hsize_t> shape = {}) const {
    put(name, H5T_STD_U64LE, H5T_NATIVE_UINT64, values, 1, std::move(shape));
  }
  void put_u16(const char* name, const std::vector<uint16_t>& values, int filters = 1) const {
    put(name, H5T_STD_U16LE, H5T_NATIVE_UINT16, values, filters);
  }
};

struct ForgeCase {
  const char* name;
  std::function<void(const Forge&)> damage;
  const char* message;
};

// Two documents [1 2 3] [4 5 6 7 8] in packs of 4; seed 7 keeps this order or swaps it.
class TokenStoreForgery : public ::testing::TestWithParam<ForgeCase> {};

TEST_P(TokenStoreForgery, IsRefused) {
  const TestFolder folder;
  const fs::path path = folder / "a.h5";
  StoreHeader header = test::small_header(4);
  test::write_store(path, {test::make_document({1, 2, 3, 4}), test::make_document({5, 6, 7, 8})},
                    header);
  GetParam().damage(Forge(path));
  const Error error = error_of([&] {
    const auto store = TokenStore::open(path);
    for (uint64_t p = 0; p < store->sizes(Split::kTrain).packs; ++p)
      (void)store->read_pack(Split::kTrain, p);
  });
  EXPECT_EQ(error.code(), ExitCode::kBadInput) << error.line();
  EXPECT_NE(error.line().find(GetParam().message), std::string::npos) << error.line();
}

using Tokens = std::vector<uint16_t>;
const ForgeCase kForgeries[] = {
    {"MissingTable", [](const Forge& f) { f.remove("/train/tokens"); }, "expected members"},
    {"MissingGroup", [](const Forge& f) { f.remove("/eval"); }, "expected members"},
    {"UnknownTable", [](const Forge& f) { f.put_u16("/train/extra", {1}); }, "expected members"},
    {"SoftLink",
     [](const Forge& f) {
       f.remove("/train/sources");
       H5Lcreate_soft("/train/tokens", f.file, "/train/sources", H5P_DEFAULT, H5P_DEFAULT);
     },
     "(a link)"},
    {"ExternalLink",
     [](const Forge& f) {
       f.remove("/train/tokens");
       H5Lcreate_external("/etc/passwd", "/x", f.file, "/train/tokens", H5P_DEFAULT, H5P_DEFAULT);
     },
     "(a link)"},
    {"GroupForTable",
     [](const Forge& f) {
       f.remove("/train/tokens");
       H5Gclose(H5Gcreate2(f.file, "/train/tokens", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
     },
     "expected a data set"},
    {"TableForGroup",
     [](const Forge& f) {
       f.remove("/eval");
       f.put_u16("/eval", {1});
     },
     "expected a group"},
    {"WrongType",
     [](const Forge& f) {
       f.put_u64("/train/tokens", {1, 2, 3, 4, 5, 6, 7, 8});
     },
     "expected type u16"},
    {"SignedType",
     [](const Forge& f) {
       f.put("/train/tokens", H5T_STD_I16LE, H5T_NATIVE_UINT16, Tokens{1, 2, 3, 4, 5, 6, 7, 8});
     },
     "expected type u16"},
    {"BigEndian",
     [](const Forge& f) {
       f.put("/train/tokens", H5T_STD_U16BE, H5T_NATIVE_UINT16, Tokens{1, 2, 3, 4, 5, 6, 7, 8});
     },
     "expected type u16"},
    {"WrongRank",
     [](const Forge& f) {
       f.put_u64("/train/documents", {0, 4, 8}, {3, 1});
     },
     "expected rank 1, got 2"},
    {"WrongColumns",
     [](const Forge& f) {
       f.put_u64("/train/packs", {0, 0, 0, 4, 1, 0, 4, 4}, {2, 4});
     },
     "expected 5 columns, got 4"},
    {"Contiguous",
     [](const Forge& f) {
       f.put_u16("/train/tokens", {1, 2, 3, 4, 5, 6, 7, 8}, 0);
     },
     "expected chunked storage"},
    {"OtherFilter",
     [](const Forge& f) {
       f.put_u16("/train/tokens", {1, 2, 3, 4, 5, 6, 7, 8}, 2);
     },
     "expected one filter"},
    {"ExternalStorage",
     [](const Forge& f) {
       f.remove("/train/tokens");
       const hsize_t size = 8;
       const hid_t space = H5Screate_simple(1, &size, nullptr);
       const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
       H5Pset_external(creation, "/etc/passwd", 0, 16);
       H5Dclose(H5Dcreate2(f.file, "/train/tokens", H5T_STD_U16LE, space, H5P_DEFAULT, creation,
                           H5P_DEFAULT));
       H5Pclose(creation);
       H5Sclose(space);
     },
     "expected chunked storage"},
    {"VirtualStorage",
     [](const Forge& f) {
       f.remove("/train/tokens");
       const hsize_t size = 8;
       const hid_t space = H5Screate_simple(1, &size, nullptr);
       const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
       H5Pset_virtual(creation, space, "/etc/passwd", "/x", space);
       H5Dclose(H5Dcreate2(f.file, "/train/tokens", H5T_STD_U16LE, space, H5P_DEFAULT, creation,
                           H5P_DEFAULT));
       H5Pclose(creation);
       H5Sclose(space);
     },
     "expected chunked storage"},
    {"ClaimsMoreThanTheFileHolds",
     [](const Forge& f) {
       f.remove("/train/tokens");
       const hsize_t size = hsize_t{1} << 40, chunk = 8192;
       const hid_t space = H5Screate_simple(1, &size, nullptr);
       const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
       H5Pset_chunk(creation, 1, &chunk);
       H5Pset_fletcher32(creation);
       H5Dclose(H5Dcreate2(f.file, "/train/tokens", H5T_STD_U16LE, space, H5P_DEFAULT, creation,
                           H5P_DEFAULT));
       H5Pclose(creation);
       H5Sclose(space);
     },
     "stored chunks"},
    {"IdOutsideOfTheVocabulary",
     [](const Forge& f) {
       f.put_u16("/train/tokens", {1, 2, 3, 4, 5, 60000, 7, 8});
     },
     "/train/tokens: index 5: expected an id below 60000, got 60000"},
    {"IndexFalls",
     [](const Forge& f) {
       f.put_u64("/train/documents", {0, 9, 8});
     },
     "/train/documents: index 1: expected a value in 1..8, got 9"},
    {"EmptyDocument",
     [](const Forge& f) {
       f.put_u64("/train/documents", {0, 0, 8});
     },
     "index 1: expected a value in 1..8, got 0"},
    {"IndexDoesNotBeginAtZero",
     [](const Forge& f) {
       f.put_u64("/train/documents", {1, 4, 8});
     },
     "index 0: expected 0, got 1"},
    {"IndexEndsEarly",
     [](const Forge& f) {
       f.put_u64("/train/documents", {0, 4, 7});
     },
     "index 2: expected 8, the token count, got 7"},
    {"UnknownSource",
     [](const Forge& f) {
       f.put_u16("/train/sources", {0, 1});
     },
     "index 1: expected a source below 1, got 1"},
    {"ShortSources", [](const Forge& f) { f.put_u16("/train/sources", {0}); },
     "expected 2 rows, got 1"},
    {"PackHole",
     [](const Forge& f) {
       f.put_u64("/train/packs", {0, 0, 0, 4, 3, 1, 1, 5, 3, 3}, {2, 5});
     },
     "row 1, token offset: expected 4, got 5"},
    {"PackTooLong",
     [](const Forge& f) {
       f.put_u64("/train/packs", {0, 0, 0, 8, 3, 1, 0, 4, 4, 3}, {2, 5});
     },
     "row 0, length: expected 4, got 8"},
    {"PackOfAnotherDocument",
     [](const Forge& f) {
       f.put_u64("/train/packs", {0, 0, 0, 4, 3, 0, 4, 4, 4, 3}, {2, 5});
     },
     "row 1: expected document 1 at 0, got document 0 at 4"},
    {"WrongTrainedCount",
     [](const Forge& f) {
       f.put_u64("/train/packs", {0, 0, 0, 4, 3, 1, 0, 4, 4, 2}, {2, 5});
     },
     "row 1, trained: expected 3 as in the tokens, got 2"},
    {"HeaderIsNoJson",
     [](const Forge& f) {
       f.put("/header", H5T_STD_U8LE, H5T_NATIVE_UINT8, std::vector<uint8_t>{'{', '}', '}'});
     },
     "/header"},
    {"HeaderOfAnotherVersion",
     [](const Forge& f) {
       const std::string text = R"({"format":"inkstone-token-store","version":2})";
       f.put("/header", H5T_STD_U8LE, H5T_NATIVE_UINT8,
             std::vector<uint8_t>(text.begin(), text.end()));
     },
     "version"},
};

INSTANTIATE_TEST_SUITE_P(All, TokenStoreForgery, ::testing::ValuesIn(kForgeries),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ink

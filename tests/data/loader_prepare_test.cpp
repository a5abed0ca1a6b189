#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "data/loader/data_set.h"
#include "data/loader/inspect.h"
#include "data/loader/prepare.h"
#include "data/loader/synthetic.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;
using test::TestFolder;
namespace fs = std::filesystem;

// One id per byte, 3 and up; 1 is BOS, 2 is EOS.
TextEncoding byte_encoding(bool eos_between = true) {
  return {.encode =
              [](const std::string& text, std::vector<int32_t>& ids) {
                for (const char c : text) ids.push_back(3 + static_cast<unsigned char>(c));
              },
          .bos = 1,
          .eos = 2,
          .eos_between = eos_between};
}

ReadDocument texts(std::vector<std::string> rows) {
  return [rows = std::move(rows), at = size_t{0}](RawDocument& out) mutable {
    if (at == rows.size()) return false;
    out.text = rows[at++];
    out.tokens.origin = static_cast<int64_t>(at);
    return true;
  };
}

StoreHeader byte_header() {
  StoreHeader header = test::small_header(8);
  header.vocab_size = 300;
  return header;
}

TEST(Prepare, DocumentIsBosTextEos) {
  const TestFolder folder;
  const PrepareStats stats = prepare_store(folder / "a.h5", byte_header(), texts({"ab", "", "c"}),
                                           byte_encoding(), {.workers = 2, .progress = {}});
  EXPECT_EQ(stats.documents, 2);
  EXPECT_EQ(stats.dropped.empty_documents, 1);
  EXPECT_EQ(stats.tokens, 7);
  EXPECT_EQ(stats.bytes, 3);
  const auto store = TokenStore::open(folder / "a.h5");
  std::map<int64_t, TokenDocument> by_origin;
  for (uint64_t d = 0; d < 2; ++d) {
    const TokenDocument document = store->read_document(Split::kTrain, d);
    by_origin[document.origin] = document;
  }
  EXPECT_EQ(by_origin[1].ids, (std::vector<int32_t>{1, 100, 101, 2}));
  EXPECT_EQ(by_origin[1].untrained, (std::vector<uint8_t>{1, 0, 0, 0}));
  EXPECT_EQ(by_origin[3].ids, (std::vector<int32_t>{1, 102, 2}));
}

TEST(Prepare, EosCanBeLeftOut) {
  const TestFolder folder;
  prepare_store(folder / "a.h5", byte_header(), texts({"ab"}), byte_encoding(false),
                {.workers = 1, .progress = {}});
  EXPECT_EQ(TokenStore::open(folder / "a.h5")->read_document(Split::kTrain, 0).ids,
            (std::vector<int32_t>{1, 100, 101}));
}

std::string bytes_of(const fs::path& path) {
  std::stringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

TEST(Prepare, NumberOfWorkersChangesNothing) {
  const TestFolder folder;
  std::vector<std::string> rows;
  for (int i = 0; i < 3000; ++i)
    rows.push_back(std::string(static_cast<size_t>(i % 37), 'x') + std::to_string(i));
  for (const int workers : {1, 2, 7})
    prepare_store(folder / std::to_string(workers), byte_header(), texts(rows), byte_encoding(),
                  {.workers = workers, .progress = {}});
  EXPECT_EQ(bytes_of(folder / "1"), bytes_of(folder / "2"));
  EXPECT_EQ(bytes_of(folder / "1"), bytes_of(folder / "7"));
}

TEST(Prepare, AnErrorOfAWorkerEndsItAndLeavesNothing) {
  const TestFolder folder;
  TextEncoding encoding = byte_encoding();
  encoding.encode = [](const std::string& text, std::vector<int32_t>& ids) {
    if (text == "bad") throw Error(ExitCode::kBadInput, "row", "bad");
    ids.push_back(3);
  };
  std::vector<std::string> rows(2000, "good");
  rows[1500] = "bad";
  const Error error = error_of([&] {
    (void)prepare_store(folder / "a.h5", byte_header(), texts(rows), encoding,
                        {.workers = 3, .progress = {}});
  });
  EXPECT_EQ(error.line(), "error[3]: row: bad");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Prepare, TextWithoutATokenizerIsCode2) {
  const TestFolder folder;
  const Error error = error_of([&] {
    (void)prepare_store(folder / "a.h5", byte_header(), texts({"a"}), {},
                        {.workers = 1, .progress = {}});
  });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
}

DataSetSetup setup_for(const TestFolder& folder, const std::string& path) {
  DataSetSetup setup;
  setup.data.max_length = 8;
  TrainSource source;
  source.path = path;
  setup.data.train = {source};
  setup.vocab_size = 60000;
  setup.cache = folder / "cache";
  return setup;
}

void write_rows(const fs::path& path, int rows) {
  std::ofstream out(path);
  for (int i = 0; i < rows; ++i) out << "{\"tokens\": [1, " << i + 2 << ", 7, 8, 9]}\n";
}

TEST(DataSet, TokenRowsGoThroughTheCacheOnce) {
  const TestFolder folder;
  write_rows(folder / "a.jsonl", 20);
  const DataSetSetup setup = setup_for(folder, (folder / "a.jsonl").string());
  const DataSet first = open_data_set(setup);
  EXPECT_EQ(first.documents(), 20);
  EXPECT_EQ(first.tokens(), 100);
  EXPECT_EQ(first.packs(), 13);
  const auto made = fs::last_write_time(fs::directory_iterator(folder / "cache")->path());
  const DataSet second = open_data_set(setup);
  EXPECT_EQ(second.identity(), first.identity());
  EXPECT_EQ(fs::last_write_time(fs::directory_iterator(folder / "cache")->path()), made);
  write_rows(folder / "a.jsonl", 21);
  EXPECT_EQ(open_data_set(setup).documents(), 21) << "changed content is another cache entry";
}

// DAT-7
TEST(DataSet, ChangedDataIsNoticedAtResume) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(20), test::small_header(8));
  const DataSetSetup setup = setup_for(folder, (folder / "a.h5").string());
  const nlohmann::json saved = open_data_set(setup).identity();
  open_data_set(setup).check_identity(saved, "step-3");
  test::write_store(folder / "a.h5", test::numbered_documents(21), test::small_header(8));
  const Error error = error_of([&] { open_data_set(setup).check_identity(saved, "step-3"); });
  EXPECT_EQ(error.code(), ExitCode::kBadInput);
}

TEST(DataSet, StoreMadeWithOtherValuesIsCode2WithBoth) {
  const TestFolder folder;
  test::write_store(folder / "a.h5", test::numbered_documents(20), test::small_header(16, 0.1));
  DataSetSetup setup = setup_for(folder, (folder / "a.h5").string());
  const Error length = error_of([&] { (void)open_data_set(setup); });
  EXPECT_EQ(length.code(), ExitCode::kConfig);
  EXPECT_NE(length.line().find("max length 8, as this run asks, got 16"), std::string::npos)
      << length.line();
  setup.data.max_length = 16;
  setup.data.eval.fraction = 0.2;
  EXPECT_NE(error_of([&] { (void)open_data_set(setup); }).line().find("eval fraction 0.2"),
            std::string::npos);
  setup.data.eval.fraction = 0.1;
  setup.prepare_seed = 8;
  EXPECT_NE(error_of([&] { (void)open_data_set(setup); }).line().find("seed 8"), std::string::npos);
  setup.prepare_seed = 7;
  const DataSet set = open_data_set(setup);
  ASSERT_EQ(set.eval.size(), 1u);
  EXPECT_EQ(set.eval[0].packs->documents(), 2);
  setup.vocab_size = 59999;
  EXPECT_EQ(error_of([&] { (void)open_data_set(setup); }).code(), ExitCode::kBadInput);
}

TEST(Inspect, ShowsBordersAndMaskedSpans) {
  TokenRange range;
  range.ids = {1, 65, 66, 2, 1, 67, 68};
  range.untrained = {1, 0, 0, 0, 1, 1, 0};
  range.starts = {0, 4};
  range.sources = {0, 0};
  range.origins = {12, 13};
  const InspectedPack pack =
      inspected("pack 7 of train", make_pack(range, ResetPositions::kDocument), {"a.jsonl"});
  EXPECT_EQ(pack.heading, "pack 7 of train: a.jsonl:12, 7 tokens, 4 trained, 2 documents");
  const PieceText text{
      .decode = [](const std::vector<int32_t>& ids) { return std::string(ids.begin(), ids.end()); },
      .piece = [](int32_t id) { return id == 1 ? std::string("s") : std::string("/s"); },
      .is_special = [](int32_t id) { return id < 3; }};
  EXPECT_EQ(show_pack(pack, text, InspectColor::kMarks),
            "──── document 0: a.jsonl:12, 4 tokens, 3 trained ────\n⟦<s:1>⟧AB</s:2>\n"
            "──── document 1: a.jsonl:13, 3 tokens, 1 trained ────\n⟦<s:1>C⟧D\n");
  EXPECT_EQ(show_pack(pack, text, InspectColor::kMarks, UntrainedSpans::kCounted),
            "──── document 0: a.jsonl:12, 4 tokens, 3 trained ────\n⟦1 tokens⟧AB</s:2>\n"
            "──── document 1: a.jsonl:13, 3 tokens, 1 trained ────\n⟦2 tokens⟧D\n");
  const std::string html = show_html({pack}, text, "a<b");
  EXPECT_NE(html.find("<title>a&lt;b</title>"), std::string::npos);
  EXPECT_NE(html.find("<h2>pack 7 of train: a.jsonl:12"), std::string::npos);
  EXPECT_NE(html.find("<span class=\"masked\">&lt;s:1&gt;C</span>"), std::string::npos);
  EXPECT_NE(show_columns(pack.pack, {}).find("5\t1\t1\t67\t\t68\n"), std::string::npos);
}

TEST(Stats, CountLengthsAndFill) {
  const TestFolder folder;
  test::write_store(folder / "a.h5",
                    {test::make_document({1, 2, 3, 4}), test::make_document({1}),
                     test::make_document({1, 2, 3, 4, 5})},
                    test::small_header(8));
  const auto store = TokenStore::open(folder / "a.h5");
  const SourceStats stats =
      source_stats(*store_source(store, Split::kTrain), "a", PackUnit::kPacks);
  EXPECT_EQ(stats.documents, 3);
  EXPECT_EQ(stats.tokens, 10);
  EXPECT_EQ(stats.packs, 2);
  EXPECT_EQ(stats.trained, 7);
  EXPECT_EQ(stats.shortest, 1);
  EXPECT_EQ(stats.longest, 5);
  EXPECT_DOUBLE_EQ(stats.fill_rate, 10.0 / 16);
  EXPECT_EQ(stats.histogram, (std::vector<int64_t>{1, 0, 2}));
  // Samples of at most three tokens: 2, 1 and 2 of them.
  const SourceStats samples =
      source_stats(*sample_source(store, Split::kTrain, 3), "a", PackUnit::kSamples);
  EXPECT_EQ(samples.packs, 5);
  EXPECT_EQ(samples.trained, stats.trained);
  EXPECT_DOUBLE_EQ(samples.fill_rate, 10.0 / 15);
  EXPECT_EQ(to_json(samples).at("samples"), 5);
  EXPECT_FALSE(to_json(samples).contains("packs"));
}

// What a store is made of without it is part of the store.
TEST(Stats, DropsAreRecordedInTheStore) {
  const TestFolder folder;
  prepare_store(folder / "a.h5", byte_header(), texts({"ab", "", "c", ""}), byte_encoding(),
                {.workers = 1, .progress = {}, .bad_rows = [] { return int64_t{5}; }});
  const auto store = TokenStore::open(folder / "a.h5");
  EXPECT_EQ(store->header().dropped, (StoreDrops{.empty_documents = 2, .bad_rows = 5}));
  const SourceStats stats =
      source_stats(*store_source(store, Split::kTrain), "a", PackUnit::kPacks);
  EXPECT_EQ(to_json(stats).at("dropped"),
            nlohmann::json({{"empty_documents", 2}, {"bad_rows", 5}}));
  EXPECT_NE(to_table({stats}, false).find("left out 2 empty documents, 5 malformed rows"),
            std::string::npos);
  // A store of before the field says that it does not know.
  StoreHeader header = store->header();
  header.dropped.reset();
  EXPECT_FALSE(StoreHeader::from_json(header.to_json(), "old").dropped.has_value());
  SourceStats unknown = stats;
  unknown.dropped.reset();
  EXPECT_TRUE(to_json(unknown).at("dropped").is_null());
  EXPECT_NE(to_table({unknown}, false).find("not recorded"), std::string::npos);
}

// Documents of generated data are those that its packs are cut from.
TEST(Stats, SyntheticSourcesHaveDocuments) {
  const auto source = synthetic_source(
      {.size = {.documents = 3, .length = 5}, .vocab_size = 96, .max_length = 4, .seed = 1});
  EXPECT_EQ(source->document_lengths(1, 2), (std::vector<uint64_t>{5, 5}));
  std::vector<int32_t> laid, cut;
  for (int64_t d = 0; d < 3; ++d)
    for (const int32_t id : source->read_document(d).ids) laid.push_back(id);
  for (int64_t p = 0; p < source->packs(); ++p)
    for (const int32_t id : source->read(p).ids) cut.push_back(id);
  EXPECT_EQ(laid, cut);
  EXPECT_FALSE(source->read_document(1).continues);
}

}  // namespace
}  // namespace ink

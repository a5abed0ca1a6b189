// Small documents and stores for the tests of packing, store and loader.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "data/store/token_store.h"
#include "data/store/token_store_writer.h"
#include "engine/core/error.h"

namespace ink::test {

// A folder of its own per test, removed at the end.
class TestFolder {
 public:
  TestFolder() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            (std::string("inkstone-") + info->test_suite_name() + "-" + info->name() + "-" +
             std::to_string(::getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline TokenDocument make_document(std::vector<int32_t> ids, int64_t origin = 1,
                                   std::vector<uint8_t> untrained = {}) {
  return {.ids = std::move(ids), .untrained = std::move(untrained), .source = 0, .origin = origin};
}

// Document d has 1 + (7 d + 3) % 23 tokens d*100 + i, all below 60000; every fifth token is masked.
inline std::vector<TokenDocument> numbered_documents(int count) {
  std::vector<TokenDocument> documents;
  for (int d = 0; d < count; ++d) {
    TokenDocument document;
    document.origin = d + 1;
    for (int i = 0; i < 1 + (7 * d + 3) % 23; ++i) {
      document.ids.push_back((d * 100 + i) % 60000);
      document.untrained.push_back(i % 5 == 0);
    }
    documents.push_back(document);
  }
  return documents;
}

inline StoreHeader small_header(int64_t max_length, double eval_fraction = 0) {
  return {.vocab_size = 60000,
          .tokenizer_hash = "abc",
          .seed = 7,
          .max_length = max_length,
          .eval_fraction = eval_fraction,
          .sources = {{"corpus.jsonl", ""}},
          .content_hash = ""};
}

inline TokenStoreWriter::Summary write_store(const std::filesystem::path& path,
                                             const std::vector<TokenDocument>& documents,
                                             const StoreHeader& header) {
  TokenStoreWriter writer(path, header);
  for (const TokenDocument& document : documents) writer.append(document);
  return writer.finish();
}

// The error that `run` throws; a failure if it throws none.
template <class Run>
Error error_of(Run&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "expected an error";
  return {ExitCode::kDone, "", ""};
}

}  // namespace ink::test

// Text or token rows -> token store, on all cores. Called by `data prepare` and, for files that are
// named directly in `data.train`, by open_data_set.
//
// A document is BOS + text + EOS; BOS is never a target. Token rows are stored as written. Rows are
// read in order, tokenised by `workers` threads and appended in order, so the file does not depend
// on the number of workers. The memory in flight is bounded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/store/token_store_writer.h"

namespace ink {

// What a reader yields: text, or ids when `is_tokens`.
struct RawDocument {
  bool is_tokens = false;
  std::string text;
  TokenDocument tokens;  // source and origin are set in both cases
};

// Fills the next document; false at the end. Called from one thread at a time.
using ReadDocument = std::function<bool(RawDocument&)>;
// Appends the ids of `text`. Called from several threads at once.
using EncodeText = std::function<void(const std::string& text, std::vector<int32_t>& ids)>;

struct TextEncoding {
  EncodeText encode;                // empty: text is an error
  std::optional<int32_t> bos, eos;  // put around every text
  bool eos_between = true;
  std::string setting = "model.tokenizer";  // what gives a tokenizer, for that error
};

// Text becomes ids: BOS, which is no target, text, EOS; empty text becomes none. Token rows stay as
// they are.
void encode_document(RawDocument& document, const TextEncoding& encoding);

struct PrepareProgress {
  int64_t documents = 0, tokens = 0, bytes = 0;  // done so far; bytes of text
};

struct PrepareStats {
  int64_t documents = 0, tokens = 0, bytes = 0;
  StoreDrops dropped;
  TokenStoreWriter::Summary store;
};

struct PrepareOptions {
  int workers = 0;  // 0: all cores
  std::function<void(const PrepareProgress&)>
      progress;                       // about ten times a second, from the calling thread
  std::function<int64_t()> bad_rows;  // that `read` left out; asked at the end
};

PrepareStats prepare_store(const std::filesystem::path& out, const StoreHeader& header,
                           const ReadDocument& read, const TextEncoding& encoding,
                           const PrepareOptions& options);

}  // namespace ink

// One split of a token store while it is written: columns with small buffers, the pack table cut on
// the way, a digest of every column. Used by token_store_writer.cpp only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/packing/cutter.h"
#include "data/store/content_hash.h"
#include "data/store/hdf5_file.h"
#include "data/store/store_format.h"

namespace ink {

// Values of type T go to a table in blocks; their bytes go through SHA-256.
template <class T>
class ColumnWriter {
 public:
  ColumnWriter(Hdf5Table table, uint64_t columns) : table_(std::move(table)), columns_(columns) {}

  void push(T value) {
    buffer_.push_back(value);
    if (buffer_.size() >= kBlock * columns_) flush();
  }
  void finish(ContentHash& hash) {
    flush();
    hash.add(hash_.finish());
  }

 private:
  static constexpr size_t kBlock = 4 * kStoreChunk;

  void flush() {
    hash_.update(std::as_bytes(std::span(buffer_)));
    table_.append(buffer_.size() / columns_, buffer_.data());
    buffer_.clear();
  }

  Hdf5Table table_;
  uint64_t columns_;
  std::vector<T> buffer_;
  Sha256 hash_;
};

// Id is uint16_t or uint32_t.
template <class Id>
class SplitWriter {
 public:
  // `tokens` and `documents` bound the chunks, so that a small store is a small file.
  SplitWriter(Hdf5File& file, Split split, int64_t max_length, uint64_t tokens, uint64_t documents);

  void add(const TokenDocument& document);
  SplitSizes finish(ContentHash& hash);

 private:
  ColumnWriter<Id> tokens_;
  ColumnWriter<uint8_t> untrained_;
  ColumnWriter<uint64_t> documents_;
  ColumnWriter<uint16_t> sources_;
  ColumnWriter<uint64_t> origins_, packs_;
  PackCutter cutter_;
  SplitSizes sizes_;
  uint8_t bits_ = 0;  // flags of the last, incomplete byte
};

extern template class SplitWriter<uint16_t>;
extern template class SplitWriter<uint32_t>;

}  // namespace ink

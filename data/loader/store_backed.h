// What packs and samples of a token store have in common. Used by store_source.cpp and
// sample_source.cpp only.
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/loader/pack_source.h"

namespace ink {

class StoreBacked : public PackSource {
 public:
  StoreBacked(std::shared_ptr<const TokenStore> store, Split split)
      : store_(std::move(store)), split_(split) {}

  std::string name() const override { return store_->path(); }
  int64_t tokens() const override { return static_cast<int64_t>(sizes().tokens); }
  int64_t documents() const override { return static_cast<int64_t>(sizes().documents); }
  // Of every document all tokens but the first may be targets, wherever it is cut.
  int64_t trained_tokens() const override { return static_cast<int64_t>(sizes().trained); }
  std::vector<std::string> source_names() const override { return store_->header().source_paths(); }
  std::vector<uint64_t> document_lengths(int64_t first, int64_t count) const override {
    return store_->document_lengths(split_, static_cast<uint64_t>(first),
                                    static_cast<uint64_t>(count));
  }
  TokenRange read_document(int64_t document) const override {
    return store_->read_part(split_, static_cast<uint64_t>(document), 0,
                             std::numeric_limits<uint64_t>::max());
  }
  std::optional<StoreDrops> dropped() const override { return store_->header().dropped; }

 protected:
  [[nodiscard]] const TokenStore& store() const { return *store_; }
  [[nodiscard]] Split split() const { return split_; }
  [[nodiscard]] const SplitSizes& sizes() const { return store_->sizes(split_); }

 private:
  std::shared_ptr<const TokenStore> store_;
  Split split_;
};

}  // namespace ink

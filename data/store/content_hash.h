// The identity of a store's content: SHA-256 over the SHA-256 of every table in the order of the
// format, preceded by the header fields that shape them. Paths of sources do not count.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "data/store/split_check.h"
#include "data/store/store_format.h"
#include "engine/io/sha256.h"

namespace ink {

class ContentHash {
 public:
  explicit ContentHash(const StoreHeader& header);
  // The SHA-256 of the next table.
  void add(const std::string& digest);
  [[nodiscard]] std::string finish();

 private:
  Sha256 hash_;
};

// Adds the tables of one split as they lie in the file.
void hash_tables(const SplitTables& tables, ContentHash& hash);

}  // namespace ink

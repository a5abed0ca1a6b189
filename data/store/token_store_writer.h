// Writes a token store (store_format.h) in memory that does not grow with the data: documents go to
// a spill file beside the target, finish() reads them back in the permuted order. Nothing carries
// the final name until finish() has written, synced and renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "data/store/store_format.h"

namespace ink {

// Code 3 for an empty document and for an id outside of the vocabulary, with source and origin.
void check_document(const TokenDocument& document, const StoreHeader& header);

class TokenStoreWriter {
 public:
  // header: everything but content_hash and dropped. Throws code 4 if `path` cannot be written.
  TokenStoreWriter(std::filesystem::path path, StoreHeader header);
  // Removes the temporary files; without finish() nothing is left behind.
  ~TokenStoreWriter();
  TokenStoreWriter(const TokenStoreWriter&) = delete;
  TokenStoreWriter& operator=(const TokenStoreWriter&) = delete;

  // Documents of one run must come in one reproducible order: it is what the permutation permutes.
  // Checked.
  void append(const TokenDocument& document);

  struct Summary {
    SplitSizes train, eval;
  };
  // dropped: what of the inputs was not appended. Code 3 when no pack results, naming the token
  // count that is needed.
  Summary finish(const StoreDrops& dropped = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ink

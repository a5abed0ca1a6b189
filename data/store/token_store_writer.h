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

class TokenStoreWriter {
 public:
  // header: everything but content_hash. Throws code 4 if `path` cannot be written.
  TokenStoreWriter(std::filesystem::path path, StoreHeader header);
  // Removes the temporary files; without finish() nothing is left behind.
  ~TokenStoreWriter();
  TokenStoreWriter(const TokenStoreWriter&) = delete;
  TokenStoreWriter& operator=(const TokenStoreWriter&) = delete;

  // Documents of one run must come in one reproducible order: it is what the permutation permutes.
  // Code 3 for an empty document and for an id outside of the vocabulary, with source and origin.
  void append(const TokenDocument& document);

  struct Summary {
    SplitSizes train, eval;
  };
  // Code 3 when no pack results, naming the token count that is needed.
  Summary finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ink

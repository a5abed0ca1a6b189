// Reads a token store (store_format.h). Called by the loader, by `data inspect` and `data stats`,
// and by `inspect --verify`.
//
// open() checks everything that can be checked without reading the tokens: types, ranks, filters,
// sizes against the real size of the file, no links or external or virtual storage, a monotone
// document index, a pack table that covers the tokens without a hole. Reading a pack checks its ids
// against the vocabulary and its trained count against the table. Every failure is code 3 with
// file, data set, index and value. All calls may come from several threads.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/packing/pack.h"
#include "data/store/store_format.h"

namespace ink {

class TokenStore {
 public:
  [[nodiscard]] static std::shared_ptr<const TokenStore> open(const std::filesystem::path& path);
  // True if the file begins with the HDF5 signature.
  [[nodiscard]] static bool is_hdf5(const std::filesystem::path& path);
  ~TokenStore();
  TokenStore(const TokenStore&) = delete;
  TokenStore& operator=(const TokenStore&) = delete;

  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] const StoreHeader& header() const;
  [[nodiscard]] const SplitSizes& sizes(Split split) const;

  [[nodiscard]] PackRow pack_row(Split split, uint64_t pack) const;
  [[nodiscard]] TokenRange read_pack(Split split, uint64_t pack) const;
  // At most `most` tokens of one document from its token `offset` on, alone: what a pack of them
  // would be, and the row that it would have.
  [[nodiscard]] PackRow part_row(Split split, uint64_t document, uint64_t offset,
                                 uint64_t most) const;
  [[nodiscard]] TokenRange read_part(Split split, uint64_t document, uint64_t offset,
                                     uint64_t most) const;
  // One document as it was appended.
  [[nodiscard]] TokenDocument read_document(Split split, uint64_t document) const;
  // Lengths of the documents [first, first + count).
  [[nodiscard]] std::vector<uint64_t> document_lengths(Split split, uint64_t first,
                                                       uint64_t count) const;
  // Reads every byte and compares content_hash.
  void verify() const;

 private:
  struct State;
  explicit TokenStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ink

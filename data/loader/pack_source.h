// Where packs come from: a split of a token store, or generated data. Called by the loader from its
// own thread and by inspect; implementations may be called from several threads.
//
// Without packing (data.packing: false) every pack is a sample: one document, or max_length tokens
// of one that is longer. Its parts are samples one after another, so no text is lost; the label at
// a cut is the next real token, as in a pack table.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/packing/pack.h"
#include "data/store/token_store.h"

namespace ink {

class PackSource {
 public:
  virtual ~PackSource() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  // Identity of the content, for the comparison at resume.
  [[nodiscard]] virtual std::string hash() const = 0;
  [[nodiscard]] virtual int64_t packs() const = 0;
  [[nodiscard]] virtual int64_t tokens() const = 0;
  [[nodiscard]] virtual int64_t documents() const = 0;
  [[nodiscard]] virtual int64_t trained_tokens() const = 0;
  [[nodiscard]] virtual int64_t max_length() const = 0;
  // Names of the sources that segments are numbered by.
  [[nodiscard]] virtual std::vector<std::string> source_names() const { return {name()}; }
  // Length and trained count without reading the tokens.
  [[nodiscard]] virtual PackRow row(int64_t pack) const = 0;
  [[nodiscard]] virtual TokenRange read(int64_t pack) const = 0;

  // The documents that the packs are made of, for people.
  [[nodiscard]] virtual std::vector<uint64_t> document_lengths(int64_t first,
                                                               int64_t count) const = 0;
  [[nodiscard]] virtual TokenRange read_document(int64_t document) const = 0;
  // What was left out of them; nothing where that is not known.
  [[nodiscard]] virtual std::optional<StoreDrops> dropped() const { return StoreDrops{}; }
};

// Packs of the source without a short last one, which NumPy's order leaves out.
[[nodiscard]] inline int64_t full_packs(const PackSource& source) {
  const int64_t packs = source.packs();
  const auto last = static_cast<int64_t>(source.row(packs - 1).length);
  return last < source.max_length() ? packs - 1 : packs;
}

[[nodiscard]] std::shared_ptr<const PackSource> store_source(
    std::shared_ptr<const TokenStore> store, Split split);
// The documents of the split as samples of at most max_length tokens, whatever max_length its pack
// table was cut with. Reads the lengths of all documents; keeps 24 bytes for each that is longer.
[[nodiscard]] std::shared_ptr<const PackSource> sample_source(
    std::shared_ptr<const TokenStore> store, Split split, int64_t max_length);

}  // namespace ink

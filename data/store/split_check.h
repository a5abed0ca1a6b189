// The tables of one split and what has to hold between them. Used by token_store.cpp only; apart
// from it so that the rules of validity are in one place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/packing/pack.h"
#include "data/store/hdf5_file.h"
#include "data/store/store_format.h"

namespace ink {

inline constexpr uint64_t kPackColumns = 5;

struct SplitTables {
  Hdf5Table tokens, untrained, documents, sources, origins, packs;
};

[[nodiscard]] std::vector<PackRow> read_pack_rows(const Hdf5Table& packs, uint64_t first,
                                                  uint64_t count);

// One pass in constant memory over the document index, the sources and the pack table: sizes agree,
// borders grow strictly from 0 to the token count, sources exist, packs follow each other without a
// hole and name the document that holds their first token. Code 3 with data set, index and value.
[[nodiscard]] SplitSizes check_split(const SplitTables& tables, const StoreHeader& header);

// The trained count of the table against the one of the tokens.
void check_trained(const TokenRange& range, const PackRow& row, const std::string& place,
                   uint64_t pack);

}  // namespace ink

#include "data/store/content_hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace ink {
namespace {

constexpr uint64_t kBlock = 65536;

std::string digest_of(const Hdf5Table& table, uint64_t columns) {
  Sha256 hash;
  std::vector<std::byte> block(kBlock * columns * static_cast<uint64_t>(size_of(table.type())));
  for (uint64_t begin = 0; begin < table.rows(); begin += kBlock) {
    const uint64_t rows = std::min(kBlock, table.rows() - begin);
    table.read(begin, rows, block.data());
    hash.update(std::span(block).first(block.size() / kBlock * rows));
  }
  return hash.finish();
}

}  // namespace

ContentHash::ContentHash(const StoreHeader& header) {
  add(fmt::format("{} {} {} {} {} {} {}", kStoreFormat, kStoreVersion, header.vocab_size,
                  header.tokenizer_hash, header.seed, header.max_length, header.eval_fraction));
}

void ContentHash::add(const std::string& digest) {
  hash_.update(std::as_bytes(std::span(digest)));
  hash_.update(std::as_bytes(std::span("\n", 1)));
}

std::string ContentHash::finish() { return hash_.finish(); }

void hash_tables(const SplitTables& tables, ContentHash& hash) {
  for (const Hdf5Table* table :
       {&tables.tokens, &tables.untrained, &tables.documents, &tables.sources, &tables.origins})
    hash.add(digest_of(*table, 1));
  hash.add(digest_of(tables.packs, kPackColumns));
}

}  // namespace ink

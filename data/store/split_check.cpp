#include "data/store/split_check.h"

#include <algorithm>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr uint64_t kBlock = 65536;

[[noreturn]] void bad(const Hdf5Table& table, const std::string& message) {
  throw Error(ExitCode::kBadInput, table.place(), message);
}

void expect_rows(const Hdf5Table& table, uint64_t expected) {
  if (table.rows() != expected)
    bad(table, fmt::format("expected {} rows, got {}", expected, table.rows()));
}

// Walks the document index once; border(d) may be asked with d never falling.
class Borders {
 public:
  Borders(const Hdf5Table& table, uint64_t tokens) : table_(table), tokens_(tokens) {}

  uint64_t at(uint64_t d) {
    while (d >= first_ + block_.size()) load();
    return block_[d - first_];
  }
  // Loads, and so checks, what is left.
  void finish() {
    while (next() < table_.rows()) load();
    if (last_ != tokens_)
      bad(table_, fmt::format("index {}: expected {}, the token count, got {}", table_.rows() - 1,
                              tokens_, last_));
  }

 private:
  [[nodiscard]] uint64_t next() const { return first_ + block_.size(); }

  void load() {
    // One value is kept, so that at(d) and at(d + 1) work across blocks.
    const uint64_t begin = next();
    auto fresh = table_.read<uint64_t>(begin, std::min(kBlock, table_.rows() - begin));
    for (uint64_t i = 0; i < fresh.size(); ++i) {
      const bool in_order = begin + i == 0 ? fresh[i] == 0 : fresh[i] > last_;
      if (!in_order || fresh[i] > tokens_)
        bad(table_,
            fmt::format("index {}: expected {}, got {}", begin + i,
                        begin + i == 0 ? "0" : fmt::format("a value in {}..{}", last_ + 1, tokens_),
                        fresh[i]));
      last_ = fresh[i];
    }
    const bool keep = !block_.empty();
    if (keep) fresh.insert(fresh.begin(), block_.back());
    first_ = begin - keep;
    block_ = std::move(fresh);
  }

  const Hdf5Table& table_;
  uint64_t tokens_;
  std::vector<uint64_t> block_;
  uint64_t first_ = 0, last_ = 0;
};

void check_row(const Hdf5Table& table, uint64_t p, const PackRow& row, uint64_t expected_offset,
               uint64_t expected_length) {
  const auto wrong = [&](const char* column, uint64_t expected, uint64_t got) {
    bad(table, fmt::format("row {}, {}: expected {}, got {}", p, column, expected, got));
  };
  if (row.token_offset != expected_offset) wrong("token offset", expected_offset, row.token_offset);
  if (row.length != expected_length) wrong("length", expected_length, row.length);
  if (row.trained > row.length)
    bad(table,
        fmt::format("row {}, trained: expected at most {}, got {}", p, row.length, row.trained));
}

// Returns the trained tokens of all packs.
uint64_t check_packs(const SplitTables& tables, Borders& borders, uint64_t documents,
                     uint64_t max_length) {
  const uint64_t tokens = tables.tokens.rows();
  uint64_t offset = 0, document = 0, trained = 0;
  for (uint64_t begin = 0; begin < tables.packs.rows(); begin += kBlock) {
    const auto rows =
        read_pack_rows(tables.packs, begin, std::min(kBlock, tables.packs.rows() - begin));
    for (uint64_t i = 0; i < rows.size(); ++i) {
      check_row(tables.packs, begin + i, rows[i], offset, std::min(max_length, tokens - offset));
      while (document + 1 < documents && borders.at(document + 1) <= offset) ++document;
      const uint64_t inside = offset - borders.at(document);
      if (rows[i].first_document != document || rows[i].document_offset != inside)
        bad(tables.packs,
            fmt::format("row {}: expected document {} at {}, got document {} at {}", begin + i,
                        document, inside, rows[i].first_document, rows[i].document_offset));
      offset += rows[i].length;
      trained += rows[i].trained;
    }
  }
  return trained;
}

void check_sources(const Hdf5Table& sources, size_t known) {
  for (uint64_t begin = 0; begin < sources.rows(); begin += kBlock) {
    const auto block = sources.read<uint16_t>(begin, std::min(kBlock, sources.rows() - begin));
    for (uint64_t i = 0; i < block.size(); ++i)
      if (block[i] >= known)
        bad(sources, fmt::format("index {}: expected a source below {}, got {}", begin + i, known,
                                 block[i]));
  }
}

}  // namespace

std::vector<PackRow> read_pack_rows(const Hdf5Table& packs, uint64_t first, uint64_t count) {
  const auto cells = packs.read<uint64_t>(first, count);
  std::vector<PackRow> rows(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t* cell = &cells[i * kPackColumns];
    rows[i] = {cell[0], cell[1], cell[2], cell[3], cell[4]};
  }
  return rows;
}

SplitSizes check_split(const SplitTables& tables, const StoreHeader& header) {
  if (tables.documents.rows() == 0) bad(tables.documents, "expected at least one row, got 0");
  const uint64_t tokens = tables.tokens.rows(), documents = tables.documents.rows() - 1;
  const auto max_length = static_cast<uint64_t>(header.max_length);
  const uint64_t packs = tokens / max_length + (tokens % max_length != 0);
  expect_rows(tables.untrained, tokens / 8 + (tokens % 8 != 0));
  expect_rows(tables.sources, documents);
  expect_rows(tables.origins, documents);
  expect_rows(tables.packs, packs);
  if (tokens > 0 && documents == 0)
    bad(tables.documents, fmt::format("expected a document for {} tokens, got none", tokens));

  Borders borders(tables.documents, tokens);
  const uint64_t trained = check_packs(tables, borders, documents, max_length);
  borders.finish();
  check_sources(tables.sources, header.sources.size());
  return {.tokens = tokens, .documents = documents, .packs = packs, .trained = trained};
}

void check_trained(const TokenRange& range, const PackRow& row, const std::string& place,
                   uint64_t pack) {
  uint64_t trained = range.next_label != kIgnoreLabel;
  for (size_t i = 0; i < range.ids.size(); ++i) trained += !range.untrained[i];
  for (const int32_t start : range.starts) trained -= !range.untrained[static_cast<size_t>(start)];
  if (trained != row.trained)
    throw Error(ExitCode::kBadInput, place,
                fmt::format("row {}, trained: expected {} as in the tokens, got {}", pack, trained,
                            row.trained));
}

}  // namespace ink

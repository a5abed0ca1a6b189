#include "data/store/token_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/store/content_hash.h"
#include "data/store/hdf5_file.h"
#include "data/store/split_check.h"
#include "engine/core/error.h"

namespace ink {
namespace {

constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;

Hdf5Type id_type(const StoreHeader& header) {
  return header.vocab_size <= 65536 ? Hdf5Type::kU16 : Hdf5Type::kU32;
}

[[noreturn]] void bad(const Hdf5Table& table, const std::string& message) {
  throw Error(ExitCode::kBadInput, table.place(), message);
}

SplitTables open_split(const Hdf5File& file, const StoreHeader& header, Split split) {
  const std::string group = std::string("/") + split_name(split);
  file.check_members(group, {"tokens", "untrained", "documents", "sources", "origins", "packs"});
  return {.tokens = file.table(group + "/tokens", {id_type(header)}, 0),
          .untrained = file.table(group + "/untrained", {Hdf5Type::kU8}, 0),
          .documents = file.table(group + "/documents", {Hdf5Type::kU64}, 0),
          .sources = file.table(group + "/sources", {Hdf5Type::kU16}, 0),
          .origins = file.table(group + "/origins", {Hdf5Type::kU64}, 0),
          .packs = file.table(group + "/packs", {Hdf5Type::kU64}, kPackColumns)};
}

StoreHeader read_header(const Hdf5File& file) {
  file.check_members("/", {"header", "train", "eval"});
  const Hdf5Table table = file.table("/header", {Hdf5Type::kU8}, 0);
  if (table.rows() > kMaxHeaderBytes)
    bad(table, fmt::format("expected at most {} bytes, got {}", kMaxHeaderBytes, table.rows()));
  const auto bytes = table.read<uint8_t>(0, table.rows());
  return StoreHeader::from_json(std::string(bytes.begin(), bytes.end()), table.place());
}

std::vector<int32_t> read_ids(const Hdf5Table& table, uint64_t first, uint64_t count,
                              int64_t vocab_size) {
  std::vector<int32_t> ids(count);
  const auto take = [&](const auto& stored) {
    for (uint64_t i = 0; i < count; ++i) {
      if (static_cast<int64_t>(stored[i]) >= vocab_size)
        bad(table, fmt::format("index {}: expected an id below {}, got {}", first + i, vocab_size,
                               stored[i]));
      ids[i] = static_cast<int32_t>(stored[i]);
    }
  };
  if (table.type() == Hdf5Type::kU16) {
    take(table.read<uint16_t>(first, count));
  } else {
    take(table.read<uint32_t>(first, count));
  }
  return ids;
}

std::vector<uint8_t> read_flags(const Hdf5Table& table, uint64_t first, uint64_t count) {
  std::vector<uint8_t> flags(count);
  if (count == 0) return flags;
  const uint64_t first_byte = first / 8;
  const auto bits = table.read<uint8_t>(first_byte, (first + count - 1) / 8 - first_byte + 1);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t bit = first + i - first_byte * 8;
    flags[i] = bits[bit / 8] >> (bit % 8) & 1;
  }
  return flags;
}

// `goes_on`: the document of the last token has more of them, so the next one may be its label.
TokenRange read_range(const SplitTables& tables, uint64_t begin, uint64_t length, bool goes_on,
                      int64_t vocab_size) {
  const uint64_t count = length + (goes_on ? 1 : 0);
  TokenRange range;
  range.ids = read_ids(tables.tokens, begin, count, vocab_size);
  range.untrained = read_flags(tables.untrained, begin, count);
  if (goes_on) {
    if (!range.untrained.back()) range.next_label = range.ids.back();
    range.ids.pop_back();
    range.untrained.pop_back();
  }
  return range;
}

// Where a part of a document lies among the tokens of its split.
struct Part {
  uint64_t begin = 0, length = 0;
  bool goes_on = false;  // the document has tokens behind it
};

Part find_part(const SplitTables& tables, uint64_t document, uint64_t offset, uint64_t most) {
  const auto borders = tables.documents.read<uint64_t>(document, 2);
  CHECK(borders[0] + offset < borders[1], "token {} of a document of {}", offset,
        borders[1] - borders[0]);
  const uint64_t begin = borders[0] + offset, left = borders[1] - begin;
  return {.begin = begin, .length = std::min(most, left), .goes_on = left > most};
}

}  // namespace

struct TokenStore::State {
  std::string path;
  Hdf5File file;
  StoreHeader header;
  std::array<SplitTables, 2> tables;
  std::array<SplitSizes, 2> sizes;

  [[nodiscard]] const SplitTables& of(Split split) const {
    return tables[static_cast<size_t>(split)];
  }
};

std::shared_ptr<const TokenStore> TokenStore::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  state->path = path.string();
  state->file = Hdf5File::open(path);
  state->header = read_header(state->file);
  for (const Split split : {Split::kTrain, Split::kEval}) {
    const auto index = static_cast<size_t>(split);
    state->tables[index] = open_split(state->file, state->header, split);
    state->sizes[index] = check_split(state->tables[index], state->header);
  }
  return std::shared_ptr<const TokenStore>(new TokenStore(std::move(state)));
}

bool TokenStore::is_hdf5(const std::filesystem::path& path) { return has_hdf5_signature(path); }

TokenStore::TokenStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
TokenStore::~TokenStore() = default;

const std::string& TokenStore::path() const { return state_->path; }
const StoreHeader& TokenStore::header() const { return state_->header; }
const SplitSizes& TokenStore::sizes(Split split) const {
  return state_->sizes[static_cast<size_t>(split)];
}

PackRow TokenStore::pack_row(Split split, uint64_t pack) const {
  return read_pack_rows(state_->of(split).packs, pack, 1).front();
}

TokenRange TokenStore::read_pack(Split split, uint64_t pack) const {
  const SplitTables& tables = state_->of(split);
  const auto rows =
      read_pack_rows(tables.packs, pack, std::min<uint64_t>(2, tables.packs.rows() - pack));
  const PackRow& row = rows.front();
  const uint64_t begin = row.token_offset, end = begin + row.length;
  const uint64_t last = rows.size() > 1 ? rows[1].first_document : tables.documents.rows() - 2;
  const uint64_t documents = last - row.first_document + 1;
  const auto borders = tables.documents.read<uint64_t>(row.first_document, documents + 1);
  const auto sources = tables.sources.read<uint16_t>(row.first_document, documents);
  const auto origins = tables.origins.read<uint64_t>(row.first_document, documents);

  const bool goes_on = std::find(borders.begin(), borders.end(), end) == borders.end();
  TokenRange range = read_range(tables, begin, row.length, goes_on, state_->header.vocab_size);
  range.continues = borders[0] < begin;
  for (uint64_t d = 0; d < documents && borders[d] < end; ++d) {
    range.starts.push_back(static_cast<int32_t>(std::max(borders[d], begin) - begin));
    range.sources.push_back(sources[d]);
    range.origins.push_back(static_cast<int64_t>(origins[d]));
  }
  check_trained(range, row, tables.packs.place(), pack);
  return range;
}

PackRow TokenStore::part_row(Split split, uint64_t document, uint64_t offset, uint64_t most) const {
  const SplitTables& tables = state_->of(split);
  const Part part = find_part(tables, document, offset, most);
  // The targets: every token behind the first, and the one behind a cut.
  const auto flags =
      read_flags(tables.untrained, part.begin + 1, part.length - (part.goes_on ? 0 : 1));
  return {.first_document = document,
          .document_offset = offset,
          .token_offset = part.begin,
          .length = part.length,
          .trained = static_cast<uint64_t>(std::count(flags.begin(), flags.end(), 0))};
}

TokenRange TokenStore::read_part(Split split, uint64_t document, uint64_t offset,
                                 uint64_t most) const {
  const SplitTables& tables = state_->of(split);
  const Part part = find_part(tables, document, offset, most);
  TokenRange range =
      read_range(tables, part.begin, part.length, part.goes_on, state_->header.vocab_size);
  range.continues = offset > 0;
  range.starts = {0};
  range.sources = {tables.sources.read<uint16_t>(document, 1).front()};
  range.origins = {static_cast<int64_t>(tables.origins.read<uint64_t>(document, 1).front())};
  return range;
}

TokenDocument TokenStore::read_document(Split split, uint64_t document) const {
  const SplitTables& tables = state_->of(split);
  const auto borders = tables.documents.read<uint64_t>(document, 2);
  TokenDocument result;
  result.ids =
      read_ids(tables.tokens, borders[0], borders[1] - borders[0], state_->header.vocab_size);
  result.untrained = read_flags(tables.untrained, borders[0], borders[1] - borders[0]);
  result.source = tables.sources.read<uint16_t>(document, 1).front();
  result.origin = static_cast<int64_t>(tables.origins.read<uint64_t>(document, 1).front());
  return result;
}

std::vector<uint64_t> TokenStore::document_lengths(Split split, uint64_t first,
                                                   uint64_t count) const {
  const auto borders = state_->of(split).documents.read<uint64_t>(first, count + 1);
  std::vector<uint64_t> lengths(count);
  for (uint64_t i = 0; i < count; ++i) lengths[i] = borders[i + 1] - borders[i];
  return lengths;
}

void TokenStore::verify() const {
  ContentHash hash(state_->header);
  for (const Split split : {Split::kTrain, Split::kEval}) {
    for (uint64_t pack = 0; pack < sizes(split).packs; ++pack) (void)read_pack(split, pack);
    hash_tables(state_->of(split), hash);
  }
  const std::string found = hash.finish();
  if (found != state_->header.content_hash)
    throw Error(
        ExitCode::kBadInput, state_->path + ":/header",
        fmt::format("expected content_hash {}, got {}", state_->header.content_hash, found));
}

}  // namespace ink

#include "data/store/token_store_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "data/packing/numpy_shuffle.h"
#include "data/packing/permutation.h"
#include "data/store/spill.h"
#include "data/store/split_writer.h"
#include "engine/core/error.h"
#include "engine/io/atomic_file.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxDocument = size_t{1} << 31;  // tokens

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void check_header(const StoreHeader& header) {
  CHECK(header.vocab_size > 0 && header.max_length > 0, "vocab_size {}, max_length {}",
        header.vocab_size, header.max_length);
  CHECK(!header.sources.empty() && header.sources.size() <= kMaxStoreSources, "{} sources",
        header.sources.size());
  if (header.order == DocumentOrder::kNumpy && header.seed > 0xffffffff)
    throw Error(ExitCode::kConfig, "seed",
                fmt::format("expected at most {} for the order of NumPy, got {}", 0xffffffffU,
                            header.seed));
  if (!(header.eval_fraction >= 0 && header.eval_fraction < 1))
    throw Error(ExitCode::kConfig, "eval fraction",
                fmt::format("expected a number in [0, 1), got {}", header.eval_fraction));
}

// Which document lies at a place.
class DocumentPlaces {
 public:
  DocumentPlaces(const StoreHeader& header, uint64_t documents)
      : permutation_(documents, header.seed, "documents") {
    if (header.order == DocumentOrder::kNumpy)
      shuffled_ = NumpyShuffle(static_cast<uint32_t>(header.seed)).next(documents);
  }
  [[nodiscard]] uint64_t at(uint64_t place) const {
    return shuffled_.empty() ? permutation_.at(place) : shuffled_[place];
  }

 private:
  Permutation permutation_;
  std::vector<uint32_t> shuffled_;
};

// For messages.
std::string inputs_of(const StoreHeader& header) {
  const size_t others = header.sources.size() - 1;
  return header.sources.front().path + (others > 0 ? fmt::format(" and {} more", others) : "");
}

uint64_t held_out(uint64_t documents, double fraction) {
  if (fraction <= 0 || documents == 0) return 0;
  const auto share = static_cast<uint64_t>(fraction * static_cast<double>(documents));
  return std::max<uint64_t>(1, share);
}

}  // namespace

struct TokenStoreWriter::State {
  fs::path path, temporary;
  StoreHeader header;
  Spill spill;
  uint64_t tokens = 0;

  State(fs::path target, StoreHeader h)
      : path(std::move(target)), header(std::move(h)), spill(folder_of(path)) {}

  template <class Id>
  Summary write(Hdf5File& file);
  void write_header(Hdf5File& file) const;
};

TokenStoreWriter::TokenStoreWriter(fs::path path, StoreHeader header) {
  check_header(header);
  state_ = std::make_unique<State>(std::move(path), std::move(header));
}

TokenStoreWriter::~TokenStoreWriter() {
  if (!state_->temporary.empty()) ::unlink(state_->temporary.c_str());
}

void check_document(const TokenDocument& document, const StoreHeader& header) {
  const auto source = static_cast<size_t>(document.source);
  CHECK(document.source >= 0 && source < header.sources.size(), "source {} of {}", document.source,
        header.sources.size());
  const auto place = [&] {
    return fmt::format("{}:{}", header.sources[source].path, document.origin);
  };
  if (document.ids.empty() || document.ids.size() >= kMaxDocument)
    throw Error(
        ExitCode::kBadInput, place(),
        fmt::format("expected 1 to {} tokens, got {}", kMaxDocument - 1, document.ids.size()));
  for (size_t i = 0; i < document.ids.size(); ++i)
    if (document.ids[i] < 0 || document.ids[i] >= header.vocab_size)
      throw Error(ExitCode::kBadInput, place(),
                  fmt::format("column {}: expected an id in 0..{}, got {}", i,
                              header.vocab_size - 1, document.ids[i]));
}

void TokenStoreWriter::append(const TokenDocument& document) {
  check_document(document, state_->header);
  state_->spill.append(document);
  state_->tokens += document.ids.size();
}

template <class Id>
TokenStoreWriter::Summary TokenStoreWriter::State::write(Hdf5File& file) {
  const uint64_t documents = spill.documents();
  const uint64_t held = held_out(documents, header.eval_fraction);
  const DocumentPlaces order(header, documents);
  ContentHash hash(header);
  TokenDocument document;
  Summary summary;
  const auto write_split = [&](Split split, uint64_t first, uint64_t end) {
    file.add_group(std::string("/") + split_name(split));
    SplitWriter<Id> writer(file, split, header.max_length, first < end ? tokens : 0, end - first);
    for (uint64_t place = first; place < end; ++place) {
      spill.read(order.at(place), document);
      writer.add(document);
    }
    return writer.finish(hash);
  };
  summary.train = write_split(Split::kTrain, held, documents);
  summary.eval = write_split(Split::kEval, 0, held);
  header.content_hash = hash.finish();
  return summary;
}

void TokenStoreWriter::State::write_header(Hdf5File& file) const {
  const std::string text = header.to_json();
  Hdf5Table table =
      file.add_table("/header", Hdf5Type::kU8, 0, std::min<uint64_t>(text.size(), kStoreChunk));
  table.append(text.size(), text.data());
}

TokenStoreWriter::Summary TokenStoreWriter::finish(const StoreDrops& dropped) {
  State& s = *state_;
  s.header.dropped = dropped;
  const uint64_t documents = s.spill.documents();
  if (documents <= held_out(documents, s.header.eval_fraction))
    throw Error(
        ExitCode::kBadInput, inputs_of(s.header),
        fmt::format("expected at least one training document (one token fills a pack of up to {}), "
                    "got {} documents with {} tokens, of which {} are held out",
                    s.header.max_length, documents, s.tokens,
                    held_out(documents, s.header.eval_fraction)),
        "a text file is one document unless format: lines makes one of every line");
  s.temporary = temporary_name(s.path);
  Summary summary;
  {
    Hdf5File file = Hdf5File::create(s.temporary, s.path.string());
    summary = s.header.vocab_size <= 65536 ? s.write<uint16_t>(file) : s.write<uint32_t>(file);
    s.write_header(file);
    file.close_and_sync();
  }
  if (::rename(s.temporary.c_str(), s.path.c_str()) != 0)
    throw Error(ExitCode::kIo, s.path.string(), system_error("", "publish", errno).what());
  s.temporary.clear();
  sync_directory(folder_of(s.path));
  return summary;
}

}  // namespace ink

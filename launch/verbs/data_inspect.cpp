// inkstone data inspect | stats: a token store shown to people.

#include <unistd.h>

#include <cstdio>

#include "data/loader/inspect.h"
#include "data/tokenizer/load.h"
#include "engine/io/atomic_file.h"
#include "launch/verbs/data_verbs.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

struct InspectArguments {
  std::string store, tokenizer, show = "text", split = "train", html;
  int64_t row = 0, count = 1, max_length = 0;  // 0: the store's
  bool packed = false, unpacked = false, verify = false;

  [[nodiscard]] const char* what() const {
    return packed ? "pack" : unpacked ? "sample" : "document";
  }
};

Split split_of(const std::string& name) { return name == "eval" ? Split::kEval : Split::kTrain; }

void check_row(const InspectArguments& a, int64_t rows) {
  if (a.row >= 0 && a.row < rows) return;
  throw Error(ExitCode::kConfig, "--row",
              fmt::format("expected a number below {}, the {}s of {}, got {}", rows, a.what(),
                          a.split, a.row));
}

int64_t end_row(const InspectArguments& a, int64_t rows) {
  return a.row + std::min(a.count, rows - a.row);
}

// Packs, or samples, as training sees them.
std::vector<Pack> read_packs(const std::shared_ptr<const TokenStore>& store,
                             const InspectArguments& a) {
  const Split split = split_of(a.split);
  const int64_t length = a.max_length > 0 ? a.max_length : store->header().max_length;
  const auto source = a.unpacked ? sample_source(store, split, length) : store_source(store, split);
  check_row(a, source->packs());
  std::vector<Pack> read;
  for (int64_t i = a.row; i < end_row(a, source->packs()); ++i)
    read.push_back(make_pack(source->read(i), ResetPositions::kDocument));
  return read;
}

// One document alone, as a pack of its own.
std::vector<Pack> read_documents(const TokenStore& store, const InspectArguments& a) {
  const auto documents = static_cast<int64_t>(store.sizes(split_of(a.split)).documents);
  check_row(a, documents);
  std::vector<Pack> read;
  for (int64_t i = a.row; i < end_row(a, documents); ++i) {
    TokenDocument document = store.read_document(split_of(a.split), static_cast<uint64_t>(i));
    TokenRange range;
    range.ids = std::move(document.ids);
    range.untrained = std::move(document.untrained);
    if (range.untrained.empty()) range.untrained.assign(range.ids.size(), 0);
    range.starts = {0};
    range.sources = {document.source};
    range.origins = {document.origin};
    read.push_back(make_pack(std::move(range), ResetPositions::kDocument));
  }
  return read;
}

PieceText piece_text(const std::shared_ptr<const Tokenizer>& tokenizer) {
  if (!tokenizer) return {};
  return {.decode =
              [tokenizer](const std::vector<int32_t>& ids) {
                return tokenizer->decode(ids, Specials::kKeep);
              },
          .piece = [tokenizer](int32_t id) { return tokenizer->id_to_piece(id); },
          .is_special = [tokenizer](int32_t id) { return tokenizer->is_special(id); }};
}

void check_tokenizer(const TokenStore& store, const Tokenizer& tokenizer) {
  const std::string& made_with = store.header().tokenizer_hash;
  if (!made_with.empty() && made_with != tokenizer.content_hash()) {
    throw Error(ExitCode::kBadInput, store.path(),
                fmt::format("expected tokens of tokenizer {}, got {}", tokenizer.content_hash(),
                            made_with));
  }
}

// Packs have the length that they were cut with.
void check_length(int64_t max_length, bool unpacked) {
  if (max_length > 0 && !unpacked)
    throw Error(ExitCode::kConfig, "--max-length",
                fmt::format("expected --unpacked beside it, got {} alone", max_length));
}

void check_flags(const InspectArguments& a) {
  if (a.packed && a.unpacked)
    throw Error(ExitCode::kConfig, "--unpacked", "expected this or --packed, got both");
  check_length(a.max_length, a.unpacked);
}

ExitCode inspect(const InspectArguments& a, const CommandLine& command) {
  check_flags(a);
  const auto store = TokenStore::open(a.store);
  if (a.verify) store->verify();
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!a.tokenizer.empty()) tokenizer = load_tokenizer(a.tokenizer);
  if (tokenizer) check_tokenizer(*store, *tokenizer);
  const std::vector<Pack> packs =
      a.packed || a.unpacked ? read_packs(store, a) : read_documents(*store, a);
  const PieceText text = piece_text(tokenizer);
  if (!a.html.empty()) {
    write_file_atomically(a.html, show_html(packs, text, a.store));
    fmt::print("{}\n", a.html);
    return ExitCode::kDone;
  }
  const InspectColor color =
      !command.no_color && isatty(STDOUT_FILENO) != 0 ? InspectColor::kAnsi : InspectColor::kMarks;
  for (size_t i = 0; i < packs.size(); ++i) {
    const Pack& pack = packs[i];
    const StoreSource& source =
        store->header().sources.at(static_cast<size_t>(pack.sources.front()));
    fmt::print("{} {} of {}: {}:{}, {} tokens, {} trained, {} document(s)\n", a.what(),
               a.row + static_cast<int64_t>(i), a.split, source.path, pack.origins.front(),
               pack.tokens.size(), pack.trained, pack.starts.size());
    if (a.show == "text" || a.show == "all") fmt::print("{}\n", show_pack(pack, text, color));
    if (a.show == "masked")
      fmt::print("{}\n", show_pack(pack, text, color, UntrainedSpans::kCounted));
    if (a.show == "ids" || a.show == "labels" || a.show == "all")
      fmt::print("{}\n", show_columns(pack, text));
  }
  return ExitCode::kDone;
}

struct StatsArguments {
  std::string store;
  int64_t max_length = 0;  // 0: the store's
  bool unpacked = false, json = false, histogram = false;
};

ExitCode stats(const StatsArguments& a) {
  check_length(a.max_length, a.unpacked);
  const auto store = TokenStore::open(a.store);
  const int64_t length = a.max_length > 0 ? a.max_length : store->header().max_length;
  std::vector<SourceStats> all;
  for (const Split split : {Split::kTrain, Split::kEval}) {
    if (store->sizes(split).documents > 0)
      all.push_back(source_stats(store, split, a.unpacked ? length : 0));
  }
  if (a.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const SourceStats& one : all) rows.push_back(to_json(one));
    fmt::print("{}\n", rows.dump(1));
  } else {
    fmt::print("{}", to_table(all, a.histogram));
  }
  return ExitCode::kDone;
}

}  // namespace

void add_data_inspect(CLI::App& data, CommandLine& command) {
  CLI::App* verb = data.add_subcommand(
      "inspect", "show documents, packs or samples, decoded, with borders and masked spans");
  auto a = std::make_shared<InspectArguments>();
  verb->add_option("store", a->store, "token store")->required();
  verb->add_option("--tokenizer", a->tokenizer, "to decode with; without one, ids are shown");
  verb->add_option("--row", a->row, "first document, pack or sample, from 0")
      ->capture_default_str();
  verb->add_option("--n", a->count, "how many")->check(positive())->capture_default_str();
  verb->add_option("--show", a->show,
                   "text; masked: the text that is trained on alone; ids, labels or all")
      ->check(one_of({"text", "masked", "ids", "labels", "all"}))
      ->capture_default_str();
  verb->add_option("--split", a->split, "which documents")
      ->check(one_of({"train", "eval"}))
      ->capture_default_str();
  verb->add_option("--html", a->html, "write a page instead");
  verb->add_flag("--packed", a->packed, "packs as training sees them, not documents");
  verb->add_flag("--unpacked", a->unpacked,
                 "samples as training with data.packing: false sees them");
  verb->add_option("--max-length", a->max_length,
                   "tokens of the longest of these samples; default: the store's")
      ->check(positive());
  verb->add_flag("--verify", a->verify, "also read every byte and compare the store's hash");
  verb->callback([a, &command] { command.run = [a, &command] { return inspect(*a, command); }; });
}

void add_data_stats(CLI::App& data, CommandLine& command) {
  CLI::App* verb = data.add_subcommand("stats", "counts, lengths, fill rate");
  auto a = std::make_shared<StatsArguments>();
  verb->add_option("store", a->store, "token store")->required();
  verb->add_flag("--unpacked", a->unpacked,
                 "samples as training with data.packing: false sees them, not packs");
  verb->add_option("--max-length", a->max_length,
                   "tokens of the longest of these samples; default: the store's")
      ->check(positive());
  verb->add_flag("--json", a->json, "as JSON");
  verb->add_flag("--hist", a->histogram, "with a histogram of lengths");
  verb->callback([a, &command] { command.run = [a] { return stats(*a); }; });
}

}  // namespace ink

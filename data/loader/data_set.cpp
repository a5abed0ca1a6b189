#include "data/loader/data_set.h"

#include <algorithm>
#include <utility>

#include "data/loader/corpus.h"
#include "data/loader/synthetic.h"
#include "engine/core/error.h"
#include "engine/io/json.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

template <class T>
void expect_made_with(const std::string& place, const char* what, const T& asked, const T& made) {
  if (asked == made) return;
  throw Error(ExitCode::kConfig, place,
              fmt::format("expected a token store made with {} {}, as this run asks, got {}", what,
                          asked, made),
              "prepare the store again, or change the run file");
}

class Opener {
 public:
  explicit Opener(const DataSetSetup& setup) : setup_(setup) {}

  std::shared_ptr<const PackSource> synthetic(const SyntheticOptions& size) const {
    return synthetic_source({.size = size,
                             .vocab_size = setup_.vocab_size,
                             .max_length = setup_.data.max_length,
                             .packing = setup_.data.packing,
                             .seed = setup_.seed});
  }

  // Packs of a split, or its samples.
  std::shared_ptr<const PackSource> packs(std::shared_ptr<const TokenStore> store,
                                          Split split) const {
    if (setup_.data.packing) return store_source(std::move(store), split);
    return sample_source(std::move(store), split, setup_.data.max_length);
  }

  // fraction: held out of this source; absent for an eval set of its own.
  std::shared_ptr<const TokenStore> store(const TrainSource& source,
                                          std::optional<double> fraction) const {
    const fs::path path = *source.path;
    const bool is_store = source.format == DataFormat::kStore ||
                          (source.format == DataFormat::kAuto && TokenStore::is_hdf5(path));
    if (is_store && source.max_samples)
      throw Error(
          ExitCode::kConfig, "data.train[].max_samples",
          fmt::format("expected text or token rows, got the token store {}", path.string()));
    const auto opened = TokenStore::open(is_store ? path : cached(source, fraction.value_or(0)));
    check(*opened, fraction);
    return opened;
  }

  // Of training documents; that of an eval set changes nothing.
  void check_order(const TokenStore& store) const {
    const DocumentOrder made = store.header().order;
    if (setup_.order != DocumentOrder::kNumpy || made == setup_.order) return;
    throw Error(ExitCode::kConfig, store.path(),
                fmt::format("expected documents in the order {} of train.compat.sampler, got {}",
                            name_of(setup_.order), name_of(made)),
                "inkstone data prepare --order numpy --seed 1024 makes such a store");
  }

 private:
  void check(const TokenStore& store, std::optional<double> fraction) const {
    const StoreHeader& header = store.header();
    if (setup_.data.packing)
      expect_made_with(store.path(), "max length", setup_.data.max_length, header.max_length);
    if (fraction) expect_made_with(store.path(), "eval fraction", *fraction, header.eval_fraction);
    if (setup_.prepare_seed)
      expect_made_with(store.path(), "seed", *setup_.prepare_seed, header.seed);
    if (header.vocab_size > setup_.vocab_size)
      throw Error(
          ExitCode::kBadInput, store.path(),
          fmt::format("expected ids below {}, the vocabulary of the model, got a store of {}",
                      setup_.vocab_size, header.vocab_size));
    if (setup_.tokenizer && !header.tokenizer_hash.empty() &&
        header.tokenizer_hash != setup_.tokenizer->content_hash())
      throw Error(ExitCode::kBadInput, store.path(),
                  fmt::format("expected tokens of tokenizer {}, got {}",
                              setup_.tokenizer->content_hash(), header.tokenizer_hash));
  }

  // The store of these files under these options, made now unless the cache has it.
  fs::path cached(const TrainSource& source, double fraction) const {
    Corpus corpus = list_corpus(*source.path, source.format);
    const bool is_text = corpus.kind == CorpusKind::kText;
    hash_corpus(corpus);
    StoreHeader header{
        .vocab_size =
            setup_.tokenizer && is_text ? setup_.tokenizer->vocab_size() : setup_.vocab_size,
        .tokenizer_hash = setup_.tokenizer && is_text ? setup_.tokenizer->content_hash() : "",
        .seed = setup_.prepare_seed.value_or(default_seed()),
        .order = setup_.order,
        .max_length = setup_.data.max_length,
        .eval_fraction = fraction,
        .sources = corpus.sources,
        .content_hash = ""};
    const int64_t most = source.max_samples.value_or(0);
    const std::string recipe =
        fmt::format("{} {} {} {} {}", header.to_json(), static_cast<int>(source.format), most,
                    setup_.data.eos_between, static_cast<int>(setup_.data.on_bad_row));
    const std::string key = sha256_of(std::as_bytes(std::span(recipe)));
    const fs::path folder = setup_.data.cache ? fs::path(*setup_.data.cache) : setup_.cache;
    const fs::path path = folder / (key.substr(0, 32) + ".h5");
    if (fs::exists(path)) return path;
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed) throw Error(ExitCode::kIo, folder.string(), failed.message());
    CorpusReader reader(std::move(corpus), reader_options(source), most);
    prepare_store(
        path, header, [&](RawDocument& out) { return reader.next(out); },
        text_encoding(setup_.tokenizer.get(), setup_.data.eos_between, setup_.tokenizer_setting),
        {.workers = static_cast<int>(setup_.data.workers),
         .progress = setup_.progress,
         .bad_rows = [&] { return reader.bad_rows(); }});
    return path;
  }

  // InternEvo's packed_dataset.py shuffles samples by this seed, whatever the run's.
  uint64_t default_seed() const { return setup_.order == DocumentOrder::kNumpy ? 1024 : 0; }

  ReaderOptions reader_options(const TrainSource& source) const {
    const bool skip = setup_.data.on_bad_row == BadRow::kSkip;
    return {.format = text_format(source.format),
            .on_bad_row = skip ? OnBadRow::kSkip : OnBadRow::kError};
  }

  const DataSetSetup& setup_;
};

void require_packs(const PackSource& source) {
  if (source.packs() == 0)
    throw Error(ExitCode::kBadInput, source.name(),
                fmt::format("expected at least 1 token for a pack of up to {}, got 0 tokens",
                            source.max_length()));
}

void require_targets(const DataSet& set) {
  int64_t trained = 0;
  for (const LoaderSource& source : set.train) trained += source.packs->trained_tokens();
  if (trained == 0)
    throw Error(
        ExitCode::kBadInput, set.train.front().packs->name(),
        fmt::format("expected tokens to train on, got none among {}: every one is masked or "
                    "the first of its document",
                    set.tokens()),
        fmt::format("inkstone data inspect {} shows what is masked",
                    set.train.front().packs->name()));
}

void add_train_source(DataSet& set, const Opener& opener, const TrainSource& source,
                      std::optional<double> fraction, bool only_one) {
  if (source.synthetic) {
    set.train.push_back({opener.synthetic(*source.synthetic), source.weight});
    return;
  }
  if (!source.path)
    throw Error(ExitCode::kConfig, "data.train[]", "expected path or synthetic, got neither");
  const auto store = opener.store(source, fraction);
  opener.check_order(*store);
  set.train.push_back({opener.packs(store, Split::kTrain), source.weight});
  require_packs(*set.train.back().packs);
  if (fraction)
    set.eval.push_back({only_one ? "held_out" : fs::path(*source.path).stem().string(),
                        opener.packs(store, Split::kEval)});
}

}  // namespace

int64_t DataSet::packs() const {
  int64_t sum = 0;
  for (const LoaderSource& source : train) sum += source.packs->packs();
  return sum;
}

int64_t DataSet::tokens() const {
  int64_t sum = 0;
  for (const LoaderSource& source : train) sum += source.packs->tokens();
  return sum;
}

int64_t DataSet::documents() const {
  int64_t sum = 0;
  for (const LoaderSource& source : train) sum += source.packs->documents();
  return sum;
}

nlohmann::json DataSet::identity() const {
  nlohmann::json list = nlohmann::json::array();
  for (const LoaderSource& source : train)
    list.push_back({{"name", source.packs->name()},
                    {"packs", source.packs->packs()},
                    {"tokens", source.packs->tokens()},
                    {"hash", source.packs->hash()}});
  return list;
}

void DataSet::check_identity(const nlohmann::json& saved, const std::string& place) const {
  const auto refuse = [&](const std::string& message) {
    throw Error(ExitCode::kBadInput, place, message,
                "the data changed after the save; --allow-data-change goes on with them");
  };
  if (!saved.is_array() || saved.size() != train.size())
    refuse(fmt::format("expected the data of the save, {} sources, got {}",
                       saved.is_array() ? saved.size() : 0, train.size()));
  for (size_t i = 0; i < train.size(); ++i) {
    const JsonReader was(saved[i], place, "data");
    const PackSource& now = *train[i].packs;
    if (was.string("hash") == now.hash() && was.integer("packs") == now.packs()) continue;
    refuse(fmt::format(
        "source {}: expected {} with {} tokens and hash {}, got {} with {} tokens and hash {}", i,
        was.string("name"), was.integer("tokens"), was.string("hash"), now.name(), now.tokens(),
        now.hash()));
  }
}

std::shared_ptr<const TokenStore> open_files(const DataSetSetup& setup, const TrainSource& files) {
  return Opener(setup).store(files, std::nullopt);
}

DataSet open_data_set(const DataSetSetup& setup) {
  const DataSection& data = setup.data;
  if (data.train.empty())
    throw Error(ExitCode::kConfig, "data.train", "expected at least one source, got none");
  const Opener opener(setup);
  DataSet set;
  for (const TrainSource& source : data.train)
    add_train_source(set, opener, source, data.eval.fraction, data.train.size() == 1);
  require_targets(set);
  std::vector<EvalSet> own = data.eval.sets;
  if (data.eval.path)
    own.push_back({.name = fs::path(*data.eval.path).stem().string(), .path = *data.eval.path});
  for (const EvalSet& eval : own) {
    TrainSource source;
    source.path = eval.path;
    set.eval.push_back(
        {eval.name, opener.packs(opener.store(source, std::nullopt), Split::kTrain)});
    require_packs(*set.eval.back().packs);
  }
  return set;
}

}  // namespace ink

#include "launch/verbs/data_view.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "data/tokenizer/load.h"
#include "engine/io/file.h"
#include "launch/trainer/data_wait.h"
#include "launch/trainer/signals.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// Private, and removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code failed;
    const fs::path parent = fs::temp_directory_path(failed);
    if (failed)
      throw Error(ExitCode::kIo, "TMPDIR", "expected a directory for temporary files, got none");
    path_ = (parent / "inkstone-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) throw system_error(path_, "make", errno);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void refuse(const char* flag, bool given, const std::string& message,
            const std::string& hint = "") {
  if (given) throw Error(ExitCode::kConfig, flag, message, hint);
}

void check_run(const DataTarget& t) {
  const auto instead = [](const char* flag, bool given, const char* key) {
    refuse(flag, given, fmt::format("expected {} of the run file, got this flag", key),
           fmt::format("{}=VALUE behind the run file overrules it", key));
  };
  instead("--tokenizer", !t.tokenizer.empty(), "model.tokenizer");
  instead("--format", t.format != "auto", "data.train.0.format");
  instead("--max-length", t.max_length > 0, "data.max_length");
  instead("--unpacked", t.unpacked, "data.packing");
  instead("--skip-bad-rows", t.skip_bad_rows, "data.on_bad_row");
}

void check_no_run(const DataTarget& t) {
  if (!t.overrides.empty())
    throw Error(ExitCode::kConfig, t.overrides.front(),
                fmt::format("expected one path, or key.sub=value behind a run file, got {} and {}",
                            t.path, t.overrides.front()),
                "several files are a folder or a pattern in quotes");
  refuse("--ranks", t.ranks > 1, fmt::format("expected a run file beside it, got {}", t.path));
}

void check_store(const DataTarget& t) {
  const std::string files = fmt::format("expected text or rows, got the token store {}", t.path);
  refuse("--format", t.format != "auto" && t.format != "store", files);
  refuse("--skip-bad-rows", t.skip_bad_rows, files);
  // Packs have the length that they were cut with.
  refuse("--max-length", t.max_length > 0 && !t.unpacked,
         fmt::format("expected --unpacked beside it, got {} alone", t.max_length));
}

void check_tokenizer(const TokenStore& store, const Tokenizer& tokenizer) {
  const std::string& made_with = store.header().tokenizer_hash;
  if (!made_with.empty() && made_with != tokenizer.content_hash()) {
    throw Error(ExitCode::kBadInput, store.path(),
                fmt::format("expected tokens of tokenizer {}, got {}", tokenizer.content_hash(),
                            made_with));
  }
}

DataView view_run(const DataTarget& t, bool quiet) {
  const LoadedRun loaded = load_run(t.path, t.overrides);
  install_signal_handlers();
  DataView view;
  {
    ProgressLine line(quiet);
    view.plan = plan_session(loaded, static_cast<int>(t.ranks),
                             choose_device(loaded.options.train.device, CardNeed::kPlanOnly), {},
                             tell_tokenising(line));
  }
  const DataSection& data = view.plan->run.data;
  const DataSet& set = view.plan->data;
  view.unit = data.packing ? PackUnit::kPacks : PackUnit::kSamples;
  view.reset_positions = data.reset_positions;
  view.tokenizer = view.plan->tokenizer;
  for (size_t i = 0; i < set.train.size(); ++i)
    view.parts.push_back(
        {data.train[i].path.value_or("synthetic"), Split::kTrain, set.train[i].packs});
  for (const EvalPacks& eval : set.eval)
    view.parts.push_back({eval.name, Split::kEval, eval.packs});
  return view;
}

DataView view_store(const DataTarget& t, const std::shared_ptr<const TokenStore>& store) {
  DataView view;
  view.unit = t.unpacked ? PackUnit::kSamples : PackUnit::kPacks;
  view.tokenizer = open_tokenizer(t.tokenizer);
  if (view.tokenizer) check_tokenizer(*store, *view.tokenizer);
  const int64_t length = t.max_length > 0 ? t.max_length : store->header().max_length;
  for (const Split split : {Split::kTrain, Split::kEval}) {
    if (store->sizes(split).documents == 0) continue;
    view.parts.push_back(
        {t.path, split,
         t.unpacked ? sample_source(store, split, length) : store_source(store, split)});
  }
  return view;
}

// The folder goes before the view does: an open file outlives its name.
DataView view_files(const DataTarget& t, bool quiet) {
  install_signal_handlers();
  const TemporaryFolder folder;
  const std::shared_ptr<const Tokenizer> tokenizer = open_tokenizer(t.tokenizer);
  ProgressLine line(quiet);
  DataSetSetup setup{.data = {},
                     .vocab_size = vocabulary_of(tokenizer.get()),
                     .prepare_seed = {},
                     .cache = folder.path(),
                     .tokenizer = tokenizer,
                     .tokenizer_setting = "--tokenizer",
                     .progress = tell_tokenising(line)};
  if (t.max_length > 0) setup.data.max_length = t.max_length;
  setup.data.packing = !t.unpacked;
  if (t.skip_bad_rows) setup.data.on_bad_row = BadRow::kSkip;
  TrainSource files;
  files.path = t.path;
  files.format = parse_format_flag(t.format);
  return view_store(t, open_files(setup, files));
}

}  // namespace

TargetKind DataTarget::kind() const {
  const std::string ending = fs::path(path).extension().string();
  if (ending == ".yaml" || ending == ".yml") return TargetKind::kRun;
  const bool store = ending == ".h5" || ending == ".hdf5" || format == "store" ||
                     (fs::is_regular_file(path) && TokenStore::is_hdf5(path));
  return store ? TargetKind::kStore : TargetKind::kFiles;
}

void DataTarget::check() const {
  if (kind() == TargetKind::kRun) return check_run(*this);
  check_no_run(*this);
  if (kind() == TargetKind::kStore) check_store(*this);
}

void add_target(CLI::App& verb, const std::shared_ptr<DataTarget>& target) {
  verb.add_option(
          "path", target->path,
          "run file (.yaml): its data as training reads them; a token store; or text, jsonl "
          "and the like: a file, a folder, a pattern")
      ->required();
  verb.add_option("overrides", target->overrides, "key.sub=value of the run file");
  verb.add_option("--tokenizer", target->tokenizer,
                  "for text, and to decode with; without one, ids are shown");
  verb.add_option("--format", target->format,
                  "of files: auto, txt, lines, jsonl, dictd, fortune, internevo")
      ->capture_default_str();
  verb.add_option("--max-length", target->max_length,
                  "tokens of a pack of files (2048), or of the longest sample; samples of a store: "
                  "default is the store's")
      ->check(positive());
  verb.add_flag("--unpacked", target->unpacked,
                "samples as training with data.packing: false sees them, not packs");
  verb.add_flag("--skip-bad-rows", target->skip_bad_rows,
                "of files: count and leave out malformed rows");
}

int64_t vocabulary_of(const Tokenizer* tokenizer) {
  return tokenizer != nullptr ? tokenizer->vocab_size() : std::numeric_limits<int32_t>::max();
}

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& path) {
  if (path.empty()) return nullptr;
  return load_tokenizer(path);
}

DataView open_view(const DataTarget& target, bool quiet) {
  target.check();
  switch (target.kind()) {
    case TargetKind::kRun:
      return view_run(target, quiet);
    case TargetKind::kStore:
      return view_store(target, TokenStore::open(target.path));
    default:
      return view_files(target, quiet);
  }
}

}  // namespace ink

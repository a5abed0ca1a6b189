// inkstone data prepare: text or token rows into a token store with its pack table.

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "data/loader/prepare.h"
#include "data/tokenizer/load.h"
#include "launch/report/progress_line.h"
#include "launch/verbs/data_verbs.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr double kMostTokens = 2147483647;  // ids and places in a pack have 32 bits

struct PrepareArguments {
  std::vector<std::string> in;
  std::string out, tokenizer, format = "auto", order = "permuted";
  int64_t max_length = 2048, seed = 0, workers = 0, vocab_size = 0;
  double eval_fraction = 0;
  bool skip_bad_rows = false, no_eos = false, overwrite = false;
};

void check(const PrepareArguments& a) {
  if (!(a.eval_fraction >= 0 && a.eval_fraction < 1)) {
    throw Error(ExitCode::kConfig, "--eval-fraction",
                fmt::format("expected a number in [0, 1), got {}", a.eval_fraction));
  }
  if (a.tokenizer.empty() && a.vocab_size <= 0) {
    throw Error(
        ExitCode::kConfig, "--tokenizer",
        "expected a tokenizer for text, or --vocab-size for rows of token ids, got neither");
  }
  if (fs::is_directory(a.out))
    throw Error(ExitCode::kIo, a.out, "expected the name of a file, got a directory");
  if (fs::exists(a.out) && !a.overwrite)
    throw Error(ExitCode::kIo, a.out, "expected no such file, got one", "--overwrite replaces it");
}

ExitCode run(const PrepareArguments& a, const CommandLine& command) {
  check(a);
  const DataFormat format = parse_format_flag(a.format);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!a.tokenizer.empty()) tokenizer = load_tokenizer(a.tokenizer);
  Corpus corpus = list_inputs(a.in, format);
  hash_corpus(corpus);
  const StoreHeader header{.vocab_size = a.vocab_size > 0 ? a.vocab_size : tokenizer->vocab_size(),
                           .tokenizer_hash = tokenizer ? tokenizer->content_hash() : "",
                           .seed = static_cast<uint64_t>(a.seed),
                           .order = a.order == name_of(DocumentOrder::kNumpy)
                                        ? DocumentOrder::kNumpy
                                        : DocumentOrder::kPermuted,
                           .max_length = a.max_length,
                           .eval_fraction = a.eval_fraction,
                           .sources = corpus.sources,
                           .content_hash = ""};
  if (fs::path(a.out).has_parent_path()) fs::create_directories(fs::path(a.out).parent_path());
  CorpusReader reader(std::move(corpus),
                      {.format = text_format(format),
                       .on_bad_row = a.skip_bad_rows ? OnBadRow::kSkip : OnBadRow::kError});
  ProgressLine progress(command.quiet);
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const PrepareStats stats = prepare_store(
      a.out, header, [&](RawDocument& out) { return reader.next(out); },
      text_encoding(tokenizer.get(), !a.no_eos, "--tokenizer"),
      {.workers = static_cast<int>(a.workers),
       .progress =
           [&](const PrepareProgress& p) {
             const double share = reader.bytes_total() > 0
                                      ? 100.0 * static_cast<double>(reader.bytes_read()) /
                                            static_cast<double>(reader.bytes_total())
                                      : 0;
             progress.show(fmt::format("{:5.1f}%  {} documents  {} tokens  {:.1f} MB/s", share,
                                       p.documents, p.tokens,
                                       static_cast<double>(p.bytes) / 1e6 / seconds()));
           },
       .bad_rows = [&] { return reader.bad_rows(); }});
  const SplitSizes& train = stats.store.train;
  const SplitSizes& eval = stats.store.eval;
  fmt::print("{}\n  train {} documents, {} tokens ({} trained), {} packs of up to {}\n", a.out,
             train.documents, train.tokens, train.trained, train.packs, a.max_length);
  if (eval.documents > 0)
    fmt::print("  eval  {} documents, {} tokens, {} packs\n", eval.documents, eval.tokens,
               eval.packs);
  const StoreDrops& dropped = stats.dropped;
  if (dropped.empty_documents > 0)
    fmt::print("  {} empty documents left out\n", dropped.empty_documents);
  if (dropped.bad_rows > 0) fmt::print("  {} bad rows left out\n", dropped.bad_rows);
  fmt::print("  {:.1f} MB of text in {:.1f} s, {:.2f} MB/s\n",
             static_cast<double>(stats.bytes) / 1e6, seconds(),
             static_cast<double>(stats.bytes) / 1e6 / seconds());
  return ExitCode::kDone;
}

}  // namespace

void add_data_prepare(CLI::App& data, CommandLine& command) {
  CLI::App* verb = data.add_subcommand("prepare", "tokenise files into a token store");
  auto a = std::make_shared<PrepareArguments>();
  verb->add_option("--in", a->in,
                   "files, folders or patterns: text, jsonl, dictionaries, InternEvo folders; gz "
                   "and zst too")
      ->required();
  verb->add_option("--out", a->out, "token store (.h5)")->required();
  verb->add_option("--tokenizer", a->tokenizer,
                   "tokenizer.model, tokenizer.json or a Hugging Face directory");
  verb->add_option("--format", a->format, "auto, txt, lines, jsonl, dictd, fortune, internevo")
      ->capture_default_str();
  verb->add_option("--max-length", a->max_length, "tokens of a pack (data.max_length of the run)")
      ->transform(whole(between(2, kMostTokens)))
      ->capture_default_str();
  verb->add_option("--seed", a->seed, "order of the documents")
      ->transform(whole(at_least(0)))
      ->capture_default_str();
  verb->add_option("--order", a->order,
                   "permuted, or numpy: shuffled as InternEvo does it before packing, with --seed "
                   "1024 (train.compat.sampler asks for it)")
      ->check(one_of({name_of(DocumentOrder::kPermuted), name_of(DocumentOrder::kNumpy)}))
      ->capture_default_str();
  verb->add_option("--eval-fraction", a->eval_fraction, "share of the documents that is held out")
      ->capture_default_str();
  verb->add_option("--vocab-size", a->vocab_size, "ids must be below it; default: the tokenizer's")
      ->transform(whole(between(1, kMostTokens)));
  verb->add_option("--workers", a->workers, "threads; 0 = all cores")
      ->transform(whole(between(0, 1024)))
      ->capture_default_str();
  verb->add_flag("--skip-bad-rows", a->skip_bad_rows, "count and leave out malformed rows");
  verb->add_flag("--no-eos", a->no_eos, "no EOS after a document");
  verb->add_flag("--overwrite", a->overwrite, "replace an existing store");
  verb->callback([a, &command] { command.run = [a, &command] { return run(*a, command); }; });
}

}  // namespace ink

// inkstone data tokenizer: trains a SentencePiece model on a sample of text.

#include <cstdio>
#include <filesystem>
#include <thread>

#include "data/tokenizer/load.h"
#include "data/tokenizer/sentencepiece_trainer.h"
#include "engine/io/atomic_file.h"
#include "launch/report/progress_line.h"
#include "launch/verbs/data_verbs.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr double kLeastPieces = 3 + 256 + 1;  // specials, bytes, and one of the text
constexpr double kLeastCoverage = 0.98;       // SentencePiece takes no less

struct TokenizerArguments {
  std::vector<std::string> in;
  std::string out, sample = "10MB", format = "auto";
  int64_t vocab_size = 32000, seed = 0;
  double coverage = 0.9995;
  bool overwrite = false;
};

void check(const TokenizerArguments& a, const fs::path& path) {
  if (!(a.coverage >= kLeastCoverage && a.coverage <= 1))
    throw Error(ExitCode::kConfig, "--coverage",
                fmt::format("expected a number from {} to 1, got {}", kLeastCoverage, a.coverage));
  if (fs::exists(path) && !a.overwrite)
    throw Error(ExitCode::kIo, path.string(), "expected no such file, got one",
                "--overwrite replaces it; stores and models that were made with it need it");
}

ExitCode run(const TokenizerArguments& arguments, const CommandLine& command) {
  const fs::path directory = arguments.out;
  const fs::path path = directory / "tokenizer.model";
  check(arguments, path);
  Corpus corpus = list_inputs(arguments.in, parse_format_flag(arguments.format));
  if (corpus.kind != CorpusKind::kText)
    throw Error(ExitCode::kBadInput, arguments.in.front(), "expected text, got token ids");
  DocumentReader reader(corpus.files, {.format = text_format(parse_format_flag(arguments.format))});
  TextSample sample(static_cast<size_t>(parse_bytes_flag("--sample", arguments.sample)),
                    static_cast<uint64_t>(arguments.seed));
  ProgressLine progress(command.quiet);
  Document document;
  int64_t documents = 0;
  while (reader.next(document)) {
    sample.add(document.text);
    if (++documents % 5000 == 0) progress.show(fmt::format("reading: {} documents", documents));
  }
  progress.show(fmt::format("training on {:.1f} MB of {} documents",
                            static_cast<double>(sample.bytes()) / 1e6, documents));
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const std::string model =
      train_sentencepiece(sample.take(), {.vocab_size = arguments.vocab_size,
                                          .character_coverage = arguments.coverage,
                                          .threads = threads});
  fs::create_directories(directory);
  write_file_atomically(path, model);
  const auto tokenizer = load_tokenizer(path.string());
  fmt::print("{}  {} pieces  sha256 {}\n", path.string(), tokenizer->vocab_size(),
             tokenizer->content_hash());
  return ExitCode::kDone;
}

}  // namespace

void add_data_tokenizer(CLI::App& data, CommandLine& command) {
  CLI::App* verb = data.add_subcommand(
      "tokenizer", "train a SentencePiece model (BPE, byte fallback; unk 0, bos 1, eos 2)");
  auto a = std::make_shared<TokenizerArguments>();
  verb->add_option("--in", a->in, "text files, folders or patterns")->required();
  verb->add_option("--out", a->out, "folder for tokenizer.model")->required();
  verb->add_option("--vocab-size", a->vocab_size, "pieces")
      ->transform(whole(between(kLeastPieces, 1 << 24)))
      ->capture_default_str();
  verb->add_option("--sample", a->sample, "text to train on, drawn evenly from all documents")
      ->capture_default_str();
  verb->add_option("--format", a->format, "auto, txt, lines, jsonl, dictd, fortune")
      ->capture_default_str();
  verb->add_option("--coverage", a->coverage, "share of characters with pieces of their own")
      ->capture_default_str();
  verb->add_option("--seed", a->seed, "of the sample")
      ->transform(whole(at_least(0)))
      ->capture_default_str();
  verb->add_flag("--overwrite", a->overwrite, "replace an existing tokenizer.model");
  verb->callback([a, &command] { command.run = [a, &command] { return run(*a, command); }; });
}

}  // namespace ink

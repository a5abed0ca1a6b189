// inkstone data inspect: what is trained on, shown to people.

#include <unistd.h>

#include <cstdio>

#include "data/loader/corpus.h"
#include "engine/io/atomic_file.h"
#include "launch/verbs/data_verbs.h"
#include "launch/verbs/data_view.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

struct InspectArguments {
  std::shared_ptr<DataTarget> target = std::make_shared<DataTarget>();
  std::string show = "text", split = "train", html;
  int64_t row = 0, count = 1;
  bool packed = false, verify = false;
};

void check(const InspectArguments& a) {
  const DataTarget& target = *a.target;
  const TargetKind kind = target.kind();
  const auto refuse = [](const char* flag, const std::string& message) {
    throw Error(ExitCode::kConfig, flag, message);
  };
  target.check();
  if (a.packed && target.unpacked) refuse("--unpacked", "expected this or --packed, got both");
  if (a.verify && kind != TargetKind::kStore)
    refuse("--verify", fmt::format("expected a token store, got {}", target.path));
  const bool in_order = kind == TargetKind::kFiles && !a.packed && !target.unpacked;
  if (in_order && target.max_length > 0)
    refuse("--max-length", fmt::format("expected --packed or --unpacked beside it, got {} alone",
                                       target.max_length));
  if (in_order && a.split == "eval")
    refuse("--split", fmt::format("expected a run file or a token store, got {}", target.path));
}

[[noreturn]] void no_such_row(const InspectArguments& a, int64_t rows, const char* what,
                              const std::string& of) {
  throw Error(
      ExitCode::kConfig, "--row",
      fmt::format("expected a number below {}, the {}s of {}, got {}", rows, what, of, a.row));
}

// Rows count on from part to part, as the packs of a run's sources do in its log.
std::vector<InspectedPack> read_view(const DataView& view, const InspectArguments& a) {
  const bool documents = !a.packed && !a.target->unpacked;
  const char* what = documents ? "document" : view.unit == PackUnit::kSamples ? "sample" : "pack";
  const Split split = a.split == "eval" ? Split::kEval : Split::kTrain;
  std::vector<InspectedPack> read;
  int64_t first = 0;  // row of the part
  for (const DataPart& part : view.parts) {
    if (part.split != split) continue;
    const int64_t rows = documents ? part.packs->documents() : part.packs->packs();
    for (int64_t row = std::max(a.row, first);
         row < first + rows && static_cast<int64_t>(read.size()) < a.count; ++row) {
      TokenRange range =
          documents ? part.packs->read_document(row - first) : part.packs->read(row - first);
      read.push_back(inspected(fmt::format("{} {} of {}", what, row, a.split),
                               make_pack(std::move(range), view.reset_positions),
                               part.packs->source_names()));
    }
    first += rows;
  }
  if (first == 0)
    throw Error(ExitCode::kConfig, "--split",
                fmt::format("expected data that are held out, got none in {}", a.target->path));
  if (a.row >= first) no_such_row(a, first, what, a.split);
  return read;
}

Pack alone(const TokenDocument& document) {
  TokenRange range{.ids = document.ids,
                   .untrained = document.untrained,
                   .starts = {0},
                   .sources = {document.source},
                   .origins = {document.origin}};
  if (range.untrained.empty()) range.untrained.assign(range.ids.size(), 0);
  return make_pack(std::move(range), ResetPositions::kDocument);
}

// Documents in the order of the files, read up to those that are wanted.
std::vector<InspectedPack> read_files(const InspectArguments& a, const Tokenizer* tokenizer) {
  const DataTarget& target = *a.target;
  const DataFormat format = parse_format_flag(target.format);
  const Corpus corpus = list_corpus(target.path, format);
  StoreHeader header;
  header.vocab_size = vocabulary_of(tokenizer);
  header.sources = corpus.sources;
  const std::vector<std::string> names = header.source_paths();
  const TextEncoding encoding = text_encoding(tokenizer, true, "--tokenizer");
  CorpusReader reader(corpus,
                      {.format = text_format(format),
                       .on_bad_row = target.skip_bad_rows ? OnBadRow::kSkip : OnBadRow::kError});
  std::vector<InspectedPack> read;
  RawDocument raw;
  int64_t row = 0;
  for (; static_cast<int64_t>(read.size()) < a.count && reader.next(raw); ++row) {
    if (row < a.row) continue;
    encode_document(raw, encoding);
    const std::string what =
        fmt::format("document {} of {} ({})", row, target.path, reader.format());
    if (!raw.is_tokens && raw.text.empty()) {
      read.push_back(
          {.heading = what + ": no text, left out of training", .places = {}, .pack = {}});
      continue;
    }
    check_document(raw.tokens, header);
    read.push_back(inspected(what, alone(raw.tokens), names));
  }
  if (read.empty()) no_such_row(a, row, "document", target.path);
  return read;
}

void print(const InspectArguments& a, const std::vector<InspectedPack>& all, const PieceText& text,
           InspectColor color) {
  for (const InspectedPack& shown : all) {
    fmt::print("{}\n", shown.heading);
    if (a.show == "text" || a.show == "all") fmt::print("{}\n", show_pack(shown, text, color));
    if (a.show == "masked")
      fmt::print("{}\n", show_pack(shown, text, color, UntrainedSpans::kCounted));
    if (a.show == "ids" || a.show == "labels" || a.show == "all")
      fmt::print("{}\n", show_columns(shown.pack, text));
  }
}

ExitCode inspect(const InspectArguments& a, const CommandLine& command) {
  check(a);
  const DataTarget& target = *a.target;
  if (a.verify) TokenStore::open(target.path)->verify();
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<InspectedPack> all;
  if (target.kind() == TargetKind::kFiles && !a.packed && !target.unpacked) {
    tokenizer = open_tokenizer(target.tokenizer);
    all = read_files(a, tokenizer.get());
  } else {
    const DataView view = open_view(target, command.quiet);
    tokenizer = view.tokenizer;
    all = read_view(view, a);
  }
  const PieceText text = piece_text(tokenizer);
  if (!a.html.empty()) {
    write_file_atomically(a.html, show_html(all, text, target.path));
    fmt::print("{}\n", a.html);
    return ExitCode::kDone;
  }
  const bool ansi = !command.no_color && isatty(STDOUT_FILENO) != 0;
  print(a, all, text, ansi ? InspectColor::kAnsi : InspectColor::kMarks);
  return ExitCode::kDone;
}

}  // namespace

void add_data_inspect(CLI::App& data, CommandLine& command) {
  CLI::App* verb = data.add_subcommand(
      "inspect", "show documents, packs or samples, decoded, with borders and masked spans");
  auto a = std::make_shared<InspectArguments>();
  add_target(*verb, a->target);
  verb->add_option(
          "--row", a->row,
          "first document, pack or sample, from 0; of a run file counted over its sources, "
          "as its log names packs")
      ->transform(whole(at_least(0)))
      ->capture_default_str();
  verb->add_option("--n", a->count, "how many")->check(positive())->capture_default_str();
  verb->add_option("--show", a->show,
                   "text; masked: the text that is trained on alone; ids, labels or all")
      ->check(one_of({"text", "masked", "ids", "labels", "all"}))
      ->capture_default_str();
  verb->add_option("--split", a->split, "what is trained on or what is held out")
      ->check(one_of({"train", "eval"}))
      ->capture_default_str();
  verb->add_option("--html", a->html, "write a page instead");
  verb->add_flag("--packed", a->packed,
                 "packs as training sees them, not documents; samples where the run file says "
                 "data.packing: false");
  verb->add_flag("--verify", a->verify, "of a store: also read every byte and compare its hash");
  verb->callback([a, &command] { command.run = [a, &command] { return inspect(*a, command); }; });
}

}  // namespace ink

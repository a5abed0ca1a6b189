#include "data/loader/corpus.h"

#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "data/store/internevo.h"
#include "data/text/expand_paths.h"
#include "engine/core/error.h"
#include "engine/io/file.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

Corpus list_internevo_corpus(const std::string& path) {
  Corpus corpus;
  corpus.kind = CorpusKind::kInternEvo;
  const InternEvoFolder folder = list_internevo(path);
  for (const std::string& type : folder.types)
    corpus.sources.push_back(
        {type.empty() ? path : (std::filesystem::path(path) / type).string(), ""});
  for (const InternEvoFile& file : folder.files) {
    corpus.files.push_back(file.path.string());
    corpus.source_of.push_back(file.type_id);
  }
  return corpus;
}

}  // namespace

Corpus list_corpus(const std::string& path, DataFormat format) {
  if (format == DataFormat::kInternEvo || (format == DataFormat::kAuto && is_internevo(path)))
    return list_internevo_corpus(path);
  Corpus corpus;
  corpus.files = expand_paths(path);
  if (corpus.files.size() > kMaxStoreSources)
    throw Error(
        ExitCode::kBadInput, path,
        fmt::format("expected at most {} files, got {}", kMaxStoreSources, corpus.files.size()));
  for (const std::string& file : corpus.files) {
    corpus.source_of.push_back(static_cast<int32_t>(corpus.sources.size()));
    corpus.sources.push_back({file, ""});
  }
  return corpus;
}

TextFormat text_format(DataFormat format) {
  switch (format) {
    case DataFormat::kText:
      return TextFormat::kTxt;
    case DataFormat::kLines:
      return TextFormat::kLines;
    case DataFormat::kJsonl:
      return TextFormat::kJsonl;
    case DataFormat::kDictd:
      return TextFormat::kDictd;
    case DataFormat::kFortune:
      return TextFormat::kFortune;
    default:
      return TextFormat::kAuto;
  }
}

void hash_corpus(Corpus& corpus) {
  std::vector<std::string> digests(corpus.sources.size());
  for (size_t i = 0; i < corpus.files.size(); ++i) {
    std::string& all = digests[static_cast<size_t>(corpus.source_of[i])];
    all += sha256_of(File::open(corpus.files[i]));
    if (corpus.kind == CorpusKind::kInternEvo)
      all += sha256_of(File::open(corpus.files[i] + ".meta"));
  }
  for (size_t s = 0; s < digests.size(); ++s) {
    const bool one_file = digests[s].size() == 64;
    corpus.sources[s].sha256 =
        one_file ? digests[s] : sha256_of(std::as_bytes(std::span(digests[s])));
  }
}

struct CorpusReader::Text {
  DocumentReader reader;
  std::map<std::string, int32_t> source_of;
  Document document;

  Text(const Corpus& corpus, const ReaderOptions& options) : reader(corpus.files, options) {
    for (size_t i = 0; i < corpus.files.size(); ++i)
      source_of[corpus.files[i]] = corpus.source_of[i];
  }

  bool next(RawDocument& out) {
    if (!reader.next(document)) return false;
    out.is_tokens = document.is_tokens;
    out.text = std::move(document.text);
    out.tokens.ids = std::move(document.ids);
    out.tokens.untrained.clear();
    for (const uint8_t trained : document.trained) out.tokens.untrained.push_back(!trained);
    const auto source = source_of.find(document.file);
    CHECK(source != source_of.end(), "the reader names {}, which is not in the corpus",
          document.file);
    out.tokens.source = source->second;
    out.tokens.origin = document.line;
    document = {};
    return true;
  }
};

struct CorpusReader::InternEvo {
  Corpus corpus;
  std::optional<InternEvoReader> reader;
  size_t file = 0;
  int64_t row = 0;

  bool next(RawDocument& out) {
    while (file < corpus.files.size()) {
      if (!reader) reader.emplace(InternEvoFile{corpus.files[file], corpus.source_of[file]});
      if (row < reader->size()) {
        out.is_tokens = true;
        out.tokens = reader->read(row++);
        return true;
      }
      reader.reset();
      row = 0;
      ++file;
    }
    return false;
  }
};

CorpusReader::CorpusReader(Corpus corpus, ReaderOptions options, int64_t max_documents)
    : left_(max_documents > 0 ? max_documents : std::numeric_limits<int64_t>::max()) {
  if (corpus.kind == CorpusKind::kText) {
    text_ = std::make_unique<Text>(corpus, options);
  } else {
    internevo_ = std::make_unique<InternEvo>();
    internevo_->corpus = std::move(corpus);
  }
}

CorpusReader::~CorpusReader() = default;

bool CorpusReader::next(RawDocument& out) {
  if (left_ == 0) return false;
  --left_;
  return text_ ? text_->next(out) : internevo_->next(out);
}

int64_t CorpusReader::bad_rows() const { return text_ ? text_->reader.bad_rows() : 0; }
std::string_view CorpusReader::format() const {
  return text_ ? name_of(text_->reader.format()) : "internevo";
}
int64_t CorpusReader::bytes_read() const { return text_ ? text_->reader.bytes_read() : 0; }
int64_t CorpusReader::bytes_total() const { return text_ ? text_->reader.bytes_total() : 0; }

TextEncoding text_encoding(const Tokenizer* tokenizer, bool eos_between, std::string setting) {
  if (!tokenizer) return {.setting = std::move(setting)};
  return {.encode = [tokenizer](const std::string& text,
                                std::vector<int32_t>& ids) { tokenizer->append_safe(text, ids); },
          .bos = tokenizer->special_ids().bos,
          .eos = tokenizer->special_ids().eos,
          .eos_between = eos_between,
          .setting = std::move(setting)};
}

}  // namespace ink

// Files that have to be tokenised or packed before training: which they are, what identifies them,
// and their documents. Called by open_data_set and by `data prepare`.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "configs/schema/data_options.h"
#include "data/loader/prepare.h"
#include "data/text/document_reader.h"
#include "data/tokenizer/tokenizer.h"

namespace ink {

enum class CorpusKind { kText, kInternEvo };

struct Corpus {
  CorpusKind kind = CorpusKind::kText;
  std::vector<std::string> files;
  std::vector<int32_t> source_of;    // per file: index into sources
  std::vector<StoreSource> sources;  // files, or type folders for InternEvo
};

// A file, a folder or a pattern (expand_paths), or an InternEvo folder or .bin file. Code 3 if
// nothing is there.
[[nodiscard]] Corpus list_corpus(const std::string& path, DataFormat format);
// What the reader is told for a format of the run file.
[[nodiscard]] TextFormat text_format(DataFormat format);

// SHA-256 of every file goes into its StoreSource (InternEvo: into the type's), metas included.
void hash_corpus(Corpus& corpus);

// All documents of all files in order, the first max_documents of them (0: all).
class CorpusReader {
 public:
  CorpusReader(Corpus corpus, ReaderOptions options, int64_t max_documents = 0);
  ~CorpusReader();

  bool next(RawDocument& out);
  [[nodiscard]] int64_t bad_rows() const;
  // Of the document that next gave: "jsonl", "internevo".
  [[nodiscard]] std::string_view format() const;
  // Bytes on disk, of text only; 0 for InternEvo.
  [[nodiscard]] int64_t bytes_read() const;
  [[nodiscard]] int64_t bytes_total() const;

 private:
  struct Text;
  struct InternEvo;
  int64_t left_;
  std::unique_ptr<Text> text_;
  std::unique_ptr<InternEvo> internevo_;
};

// BOS + text + EOS by the rules of the tokenizer, which must outlive the result; empty without one.
// setting: what the user gives a tokenizer with.
[[nodiscard]] TextEncoding text_encoding(const Tokenizer* tokenizer, bool eos_between,
                                         std::string setting = "model.tokenizer");

}  // namespace ink

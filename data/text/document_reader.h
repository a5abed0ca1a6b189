// The documents of a list of files, one after the other, in order. Called by `data tokenizer`,
// `data prepare` and by runs that name text files. One reader is used by one thread at a time; its
// documents are independent, so that workers may tokenise them in parallel.
//
// Formats: txt (the file is one document), lines (every non-empty line), jsonl (rows, see
// row_parser.h; a JSON array too), dictd (an .index file beside its .dict.dz), fortune (records
// between `%` lines). kAuto decides per file: name.index with a database beside it is dictd; else
// by content, { or [ first = jsonl, records between `%` lines = fortune, anything else = txt. gzip
// and zstd are unpacked by content.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/document.h"

namespace ink {

enum class TextFormat { kAuto, kTxt, kLines, kJsonl, kDictd, kFortune };
enum class OnBadRow { kError, kSkip };

// Code 2 with the known names for anything else than auto, txt, lines, jsonl, dictd, fortune.
[[nodiscard]] TextFormat parse_text_format(std::string_view name);
[[nodiscard]] std::string_view name_of(TextFormat format);

struct ReaderOptions {
  TextFormat format = TextFormat::kAuto;
  OnBadRow on_bad_row = OnBadRow::kError;
};

class DocumentReader {
 public:
  // files: in the order in which they are read (expand_paths).
  explicit DocumentReader(std::vector<std::string> files, ReaderOptions options = {});
  ~DocumentReader();

  // false at the end. Code 3 for a file that is absent, damaged or not data (HTML, a Git LFS
  // pointer), and for a bad row unless they are skipped.
  [[nodiscard]] bool next(Document& document);

  // Of the document that next gave; never kAuto behind it.
  [[nodiscard]] TextFormat format() const { return format_; }
  [[nodiscard]] int64_t bad_rows() const { return bad_rows_; }
  [[nodiscard]] const std::string& first_bad_row() const {
    return first_bad_row_;
  }  // its error line
  // Progress in bytes on disk.
  [[nodiscard]] int64_t bytes_read() const;
  [[nodiscard]] int64_t bytes_total() const { return bytes_total_; }

 private:
  std::vector<std::string> files_;
  ReaderOptions options_;
  size_t next_file_ = 0;
  TextFormat format_ = TextFormat::kAuto;  // of source_
  std::unique_ptr<RowSource> source_;
  int64_t bytes_done_ = 0, bytes_total_ = 0;
  int64_t bad_rows_ = 0;
  std::string first_bad_row_;
};

}  // namespace ink
